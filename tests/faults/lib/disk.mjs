// A disk of the test's own: elgate-fault-disk (tests/faults/disk) with a loop device on it and ext4 on that. It loses
// power, fails, lies and dawdles when told to, and takes everything down again when this process is gone, however it went.

import { execFile, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { promisify } from 'node:util';
import { targetDir } from '../../../scripts/lib/paths.mjs';
import { now, sleep, turn, until } from '../../crash/lib/wait.mjs';
import { Lacking } from './lacking.mjs';

const execute = promisify(execFile);
const PROGRAM = path.join(targetDir(), 'debug/elgate-fault-disk');
const PROGRAMS = ['losetup', 'mkfs.ext4', 'mount', 'umount', 'e2fsck', 'filefrag'];
const ANSWER_MS = 30_000;
/** How long a cut waits for its moment before it strikes all the same. */
const MOMENT_MS = 500;
const UNMOUNT_MS = 10_000;

async function run(command, ...args) {
  const { stdout } = await execute(command, args, { timeout: 60_000, maxBuffer: 1 << 24 });
  return stdout.trim();
}

/** What this machine lacks for a disk of our own; undefined if nothing. */
async function whatIsMissing() {
  if (process.getuid() !== 0) return 'root, to mount file systems';
  for (const special of ['/dev/fuse', '/dev/loop-control']) if (!fs.existsSync(special)) return special;
  for (const program of PROGRAMS) {
    const found = await run('sh', '-c', `command -v ${program}`).catch(() => undefined);
    if (!found) return program;
  }
  if (!fs.existsSync(PROGRAM)) return `${PROGRAM}: cargo build -p elgate-fault-disk`;
  return undefined;
}

export class FaultyDisk {
  #child;
  #answers = [];
  #loop;
  #options;
  #ended;
  #isClosed = false;

  /** A formatted, mounted disk of `bytes` in `sandbox`. `journal: false` is ext4 that goes on writing after an error. */
  static async make(sandbox, { bytes, journal = true, options = 'errors=remount-ro' }) {
    const missing = await whatIsMissing();
    if (missing) throw new Lacking(`needs ${missing}`);
    const disk = new FaultyDisk();
    disk.directory = sandbox.path('disk');
    disk.mountpoint = path.join(disk.directory, 'mount');
    disk.#options = options;
    for (const name of ['', 'fuse', 'mount']) fs.mkdirSync(path.join(disk.directory, name));
    const log = fs.openSync(sandbox.path('disk.log'), 'a');
    // In a group of its own: neither Ctrl-C nor the end of this process ends it before it has taken everything down.
    disk.#child = spawn(PROGRAM, [disk.directory, String(bytes)], { detached: true, stdio: ['pipe', 'pipe', log] });
    fs.closeSync(log);
    disk.#child.stdin.on('error', () => {});
    disk.#ended = new Promise((resolve) => {
      disk.#child.once('error', resolve);
      disk.#child.once('close', resolve);
    }).then((how) => {
      disk.#isClosed = true;
      const error = new Error(`the disk ended (${how}):\n${sandbox.tailOf('disk.log')}`);
      for (const { reject } of disk.#answers.splice(0)) reject(error);
    });
    sandbox.undo(() => disk.#takeDownNow());
    readline.createInterface({ input: disk.#child.stdout }).on('line', (line) => {
      const { resolve, reject } = disk.#answers.shift() ?? {};
      const answer = JSON.parse(line);
      if (answer.error) reject?.(new Error(`the disk says: ${answer.error}`));
      else resolve?.(answer);
    });
    await disk.#answer();
    await disk.attach();
    const features = journal ? ['-J', 'size=4'] : ['-O', '^has_journal'];
    await run('mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'nodiscard,lazy_itable_init=0', ...features, disk.#loop);
    await disk.mount();
    return disk;
  }

  /** Puts a loop device on the disk that bypasses the page cache, so that no fault is hidden. */
  async attach() {
    this.#loop = await run('losetup', '--find', '--show', '--direct-io=on', path.join(this.directory, 'fuse/disk'));
    const direct = fs.readFileSync(path.join('/sys/block', path.basename(this.#loop), 'loop/dio'), 'utf8').trim();
    if (direct !== '1') throw new Error(`${this.#loop} refuses direct I/O: faults would hide in the page cache`);
  }

  /** Where ext4 tells of itself: /sys/fs/ext4/<this>. */
  get name() {
    return path.basename(this.#loop);
  }

  mount() {
    return run('mount', '-t', 'ext4', '-o', this.#options, this.#loop, this.mountpoint);
  }

  /** Unmounts. Files of a process just killed may still be closing: tried again for a while. */
  async umount() {
    for (let left = UNMOUNT_MS; ; left -= 5) {
      try {
        return await run('umount', this.mountpoint);
      } catch (error) {
        if (left <= 0 || !/busy/.test(error.stderr)) throw error;
        await sleep(5);
      }
    }
  }

  async detach() {
    await run('losetup', '--detach', this.#loop);
    this.#loop = undefined;
  }

  /** Repairs the unmounted file system, as an administrator would after an error. */
  async check() {
    // Exit 1: errors were corrected.
    await run('e2fsck', '-f', '-y', this.#loop).catch((error) => {
      if (error.code !== 1) throw error;
    });
  }

  /**
   * The power fails: now, or (with `moment`, "write N" or "flush N") in place of the N-th such request from now, or at
   * once if none comes. `kill` ends whoever uses the disk; then all comes back as it survived. Returns what was lost.
   */
  async cut(survivors, seed, kill, moment) {
    const before = await this.stats();
    const isCut = async () => (await this.stats()).cuts > before.cuts;
    if (moment) {
      await this.tell(`cut ${survivors} ${seed} ${moment}`);
      for (const limit = now() + MOMENT_MS; now() < limit && !(await isCut()); ) await turn();
    }
    if (!(await isCut())) await this.tell(`cut ${survivors} ${seed}`);
    await kill();
    await this.umount();
    // What the kernel still holds of this device is from before the cut; a new one knows only the disk.
    await this.detach();
    await this.tell('on');
    await this.attach();
    await this.mount();
    const { unflushed, dropped, torn } = await this.stats();
    return { unflushed: unflushed - before.unflushed, dropped: dropped - before.dropped, torn: torn - before.torn };
  }

  tell(command) {
    this.#child.stdin.write(`${command}\n`);
    return this.#answer();
  }

  stats() {
    return this.tell('stats');
  }

  /** Waits until `count` requests of a kind have failed, all told. */
  untilFailed(request, count, options) {
    return until(
      `${count} requests to ${request} to fail`,
      async () => (await this.stats()).failed[request] >= count,
      options,
    );
  }

  /** Where the file's bytes lie on the disk: the smallest range that holds them all. */
  async extentOf(file) {
    const text = await run('filefrag', '-b4096', '-v', file);
    const extents = [...text.matchAll(/^\s*\d+:\s+\d+\.\.\s*\d+:\s+(\d+)\.\.\s*(\d+):/gm)];
    if (extents.length === 0) throw new Error(`filefrag does not say where ${file} is:\n${text}`);
    const from = Math.min(...extents.map(([, first]) => Number(first)));
    const to = Math.max(...extents.map(([, , last]) => Number(last))) + 1;
    return { from: from * 4096, to: to * 4096 };
  }

  /** Takes everything down: the program does, at the end of its input. */
  async close() {
    this.#child.stdin.end();
    await this.#ended;
  }

  /** The same at once, for a run that breaks off. */
  #takeDownNow() {
    if (this.#isClosed) return;
    const quietly = (command, ...args) => spawnSync(command, args, { stdio: 'ignore', timeout: 10_000 });
    quietly('umount', '--lazy', this.mountpoint);
    if (this.#loop) quietly('losetup', '--detach', this.#loop);
    quietly('umount', '--lazy', path.join(this.directory, 'fuse'));
    this.#child.stdin.destroy();
  }

  async #answer() {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the disk gave no answer within ${ANSWER_MS} ms`)), ANSWER_MS);
    });
    try {
      return await Promise.race([new Promise((resolve, reject) => this.#answers.push({ resolve, reject })), limit]);
    } finally {
      clearTimeout(timer);
    }
  }
}
