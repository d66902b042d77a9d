/**
 * What `work` makes of each item, in the order of the items; up to `width` of them are in work at once, and no more are held. The first error
 * ends it.
 */
export async function* ahead<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  width: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const started: Promise<R>[] = [];
  for await (const item of items) {
    const result = work(item);
    // Awaited in its turn; a failure until then is no bug.
    result.catch(() => {});
    started.push(result);
    if (started.length >= width) yield await started.shift()!;
  }
  for (const result of started) yield await result;
}
