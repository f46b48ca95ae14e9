// A disk that answers flushes well and keeps nothing, and then loses power: acknowledged records are lost, which nobody
// on that one disk can prevent. It may not pass unseen: the programs that come back have been told of higher LSNs.

import { check } from '../../crash/checker.mjs';
import { readJournals, receiptsOfFile } from '../../crash/lib/history.mjs';
import { FILE_ROUTE } from '../../crash/lib/two-routes.mjs';
import { withFlow } from '../lib/flow.mjs';

const DISK_BYTES = 256 << 20;
const RECORDS = 400;

export const run = (context, { backend }) =>
  withFlow(context, { backend, disk: { bytes: DISK_BYTES } }, async (flow) => {
    const { report } = context;
    const acknowledged = () =>
      (readJournals(flow.pool.journals).get(FILE_ROUTE) ?? []).filter(({ type }) => type === 'ok');
    await flow.flowing('the warm-up', { more: 200 });
    await flow.disk.tell('lie');
    await flow.flowing('the lie', { more: RECORDS });
    const { dropped } = await flow.cutPower('none');
    await flow.disk.tell('heal');
    const before = acknowledged();
    const told = Math.max(...before.map(({ lsn }) => lsn));

    flow.daemon.start();
    await flow.flowing('the cut', { more: RECORDS });
    await flow.pool.finish();
    await flow.gate.drained([FILE_ROUTE]);
    const row = await flow.state();
    const { lies } = await flow.disk.stats();
    const { count, figures } = check({
      route: FILE_ROUTE,
      sink: 'file',
      events: readJournals(flow.pool.journals).get(FILE_ROUTE),
      receipts: receiptsOfFile(flow.gate.outputOf(FILE_ROUTE)),
      injected: 1,
    });
    report.check(
      'the disk lied, and records were lost',
      lies > 0 && dropped > 0 && count.I1 > 0,
      `${lies} lies, ${dropped} writes dropped, ${count.I1 ?? 0} records lost: NOT MEASURED`,
    );
    const again = acknowledged()
      .slice(before.length)
      .filter(({ lsn }) => lsn <= told);
    report.check(
      'the programs that came back are told LSNs that they know',
      again.length > 0,
      `none of the receipts after the cut is at or below LSN ${told}: the loss cannot be seen`,
    );
    const isReported = row.damage !== null || row.lost_records > 0;
    if (isReported) report.pass('the daemon reports the loss', JSON.stringify(row.damage));
    else
      report.skip(
        'the daemon reports the loss',
        `a gap: it does not learn what programs were told, so ${figures.lost} lost records show in their receipts only`,
      );
    report.figures({ struck: { lying_flush: lies }, lost_to_lies: figures.lost });
    report.note(
      `${lies} flushes were lies: ${figures.lost} acknowledged records lost, LSNs up to ${told} given out again`,
    );
  });
