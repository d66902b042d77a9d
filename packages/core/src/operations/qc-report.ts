import { isNightshiftError } from '../errors.ts';
import type { LeftOut, QcReport } from '../pipeline/progress.ts';
import type { FilterName, Plan, PlanCounts } from '../plan/plan.ts';
import { type QcHistograms, qcCounter, qcSummary } from '../plan/qc.ts';
import type { Record } from '../record/record.ts';

/** What the record holds of one slide's measures. */
export interface SlideQc {
  readonly embedded: QcHistograms | null;
  readonly dropped: QcHistograms | null;
}

/** Null where the plan measures nothing. Opens the footer of the slide file; one that is damaged is `verify`'s to tell. */
export async function slideQc(record: Record, { recipe, slide, qc }: Plan): Promise<SlideQc | null> {
  if (!qc) return null;
  const file = await record.readSlide(recipe, slide.key).catch((error) => {
    if (isNightshiftError(error, 'record-corrupt')) return null;
    throw error;
  });
  await file?.close();
  return { embedded: file?.info.qc ?? null, dropped: qc.dropped ?? null };
}

/** Of any number of slides together. */
export function qcTally() {
  const embedded = qcCounter();
  const dropped = qcCounter();
  let any = false;
  return {
    add(qc: SlideQc | null): void {
      if (!qc) return;
      any = true;
      if (qc.embedded) embedded.addAll(qc.embedded);
      if (qc.dropped) dropped.addAll(qc.dropped);
    },
    report: (): QcReport | null =>
      any ? { embedded: qcSummary(embedded.histograms), dropped: qcSummary(dropped.histograms) } : null,
  };
}

/** Of any number of plans together. */
export function leftOutTally() {
  const sum = { rejectedByTissue: 0, rejectedByFilter: 0, filters: {} as { [name in FilterName]?: number } };
  return {
    sum: sum as LeftOut,
    add({ rejectedByTissue, rejectedByFilter, filters = {} }: Pick<PlanCounts, keyof LeftOut>): void {
      sum.rejectedByTissue += rejectedByTissue;
      sum.rejectedByFilter += rejectedByFilter;
      for (const [name, count] of Object.entries(filters) as [FilterName, number][]) {
        sum.filters[name] = (sum.filters[name] ?? 0) + count;
      }
    },
  };
}
