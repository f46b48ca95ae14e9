// Real data: Debian's nginx on a loopback port, driven by wrk, and the access log that it writes meanwhile.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './sandbox.mjs';
import { until } from './wait.mjs';

const TRAFFIC = path.join(path.dirname(fileURLToPath(import.meta.url)), 'traffic.lua');

const has = (tool) =>
  spawnSync('sh', ['-c', `command -v ${tool}`], { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } })
    .status === 0;

/** The tools that are still missing after an attempt to install them, which needs root and apt. */
export function missingTools(say) {
  const missing = () => ['nginx', 'wrk'].filter((tool) => !has(tool));
  if (missing().length === 0) return [];
  if (process.getuid() !== 0 || !has('apt-get')) return missing();
  say(`installing ${missing().join(' and ')}`);
  const apt = (...args) =>
    spawnSync('apt-get', args, { stdio: 'ignore', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } });
  const packages = ['nginx-light', 'wrk'];
  // RUNLEVEL keeps the package from starting a service of its own.
  process.env.RUNLEVEL = '1';
  if (apt('install', '-y', '--no-install-recommends', ...packages).status !== 0) {
    apt('update', '-q');
    apt('install', '-y', '--no-install-recommends', ...packages);
  }
  return missing();
}

const configuration = (dir, port) => `
daemon off;
master_process off;
pid ${dir}/nginx.pid;
error_log ${dir}/error.log warn;
events { worker_connections 512; }
http {
  # The connection and its request number make every line unique, so that each has one identity through the test.
  log_format story '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                   '"$http_referer" "$http_user_agent" $request_time $msec $connection $connection_requests';
  access_log ${dir}/access.log story buffer=64k flush=1s;
  client_body_temp_path ${dir}/body;
  proxy_temp_path ${dir}/proxy;
  fastcgi_temp_path ${dir}/fastcgi;
  uwsgi_temp_path ${dir}/uwsgi;
  scgi_temp_path ${dir}/scgi;
  keepalive_requests 1000;
  server {
    listen 127.0.0.1:${port};
    location /ok { return 200 "fine\\n"; }
    location /large { return 200 "${'0123456789abcdef'.repeat(64)}\\n"; }
    location /missing { return 404; }
    location /moved { return 301 /ok; }
    location /forbidden { return 403; }
    location /broken { return 503; }
  }
}
`;

/** Drives nginx until its access log holds `lines` lines, and returns exactly that many, as `Lines`. */
export async function makeAccessLog(sandbox, { lines, seed }) {
  const dir = sandbox.path('nginx');
  fs.mkdirSync(dir);
  const port = await freePort();
  fs.writeFileSync(path.join(dir, 'nginx.conf'), configuration(dir, port));
  const env = { PATH: `${process.env.PATH}:/usr/sbin` };
  const nginx = sandbox.spawn('nginx', ['-p', dir, '-c', path.join(dir, 'nginx.conf')], { log: 'nginx.log', env });
  await until('nginx to answer', () => answers(port), {
    everyMs: 20,
    abort: () => (nginx.exitCode === null ? undefined : `nginx ended: ${sandbox.tailOf('nginx.log')}`),
  });

  const log = path.join(dir, 'access.log');
  const url = `http://127.0.0.1:${port}`;
  let written = 0;
  for (let round = 0; round < 30 && written < lines; round += 1) {
    const args = ['-t1', '-c32', '-d2s', '-s', TRAFFIC, url, '--', String(seed + round)];
    const { code, stdout, stderr } = await sandbox.run('wrk', args);
    if (code !== 0) throw new Error(`wrk failed: ${stderr}`);
    written += Number(/(\d+) requests in/.exec(stdout)?.[1] ?? 0);
  }
  nginx.kill('SIGQUIT');
  await nginx.ended;
  const all = new Lines(fs.readFileSync(log));
  if (all.count < lines) throw new Error(`nginx logged ${all.count} lines, fewer than the ${lines} wanted`);
  return all.slice(0, lines);
}

function answers(port) {
  return new Promise((resolve) => {
    const probe = http.get({ host: '127.0.0.1', port, path: '/ok', agent: false }, (response) => {
      response.resume();
      response.on('end', () => resolve(true));
    });
    probe.on('error', () => resolve(false));
  });
}

/** A buffer of newline-ended lines with an index into it. Line numbers start at 0. */
export class Lines {
  constructor(buffer, starts = index(buffer)) {
    this.buffer = buffer;
    this.starts = starts;
  }

  get count() {
    return this.starts.length - 1;
  }

  /** Line `number` without its newline. */
  line(number) {
    return this.buffer.subarray(this.starts[number], this.starts[number + 1] - 1);
  }

  /** Lines [from, to) with their newlines, as they stand in the file. */
  bytes(from, to) {
    return this.buffer.subarray(this.starts[from], this.starts[to]);
  }

  slice(from, to) {
    const offset = this.starts[from];
    return new Lines(
      this.bytes(from, to),
      this.starts.slice(from, to + 1).map((start) => start - offset),
    );
  }
}

function index(buffer) {
  const starts = [0];
  for (let at = buffer.indexOf(10); at !== -1; at = buffer.indexOf(10, at + 1)) starts.push(at + 1);
  return starts;
}
