export { observeS3 } from './compose.ts';
export * from './errors.ts';
export { type HttpOptions, type HttpServer, type Readiness, startHttp } from './http.ts';
export {
  type CountedQueue,
  combineMeters,
  createMetrics,
  type Metrics,
  type MetricsOptions,
  type RunTiles,
} from './metrics.ts';
export { type BenchOptions, type BenchPoint, type BenchReport, benchModel } from './model/bench.ts';
export * from './model/catalog.ts';
export { type CheckReport, checkModel, driftMessage, requireFaithful } from './model/check.ts';
export { type ConvertOptions, type ConvertProgress, convertModel } from './model/convert/convert.ts';
export { POS_INTERPOLATIONS, type PosInterpolation } from './model/convert/position.ts';
export { type RandomDinov2Options, writeRandomDinov2 } from './model/convert/random-weights.ts';
export * from './model/encoder.ts';
export { type FoundModel, findModel, listModels } from './model/find.ts';
export { checkModelFiles, readModel, verifyModelFiles } from './model/info.ts';
export { type OnnxEncoder, type OpenEncoderOptions, openEncoder } from './model/onnx.ts';
export { HUB_ENDPOINT, type Pulled, type PullOptions, type PullProgress, pullModel } from './model/pull/pull.ts';
export { type MppRule, ruleFor } from './operations/dataset.ts';
export * from './operations/doctor.ts';
export * from './operations/dry-run.ts';
export * from './operations/embed.ts';
export * from './operations/inspect.ts';
export * from './operations/retry.ts';
export type { SealOptions } from './operations/seal-run.ts';
export * from './operations/search.ts';
export * from './operations/status.ts';
export * from './operations/submit.ts';
export * from './operations/verify.ts';
export * from './operations/versions.ts';
export * from './operations/work.ts';
export * from './pipeline/batcher.ts';
export * from './pipeline/budget.ts';
export * from './pipeline/meter.ts';
export type * from './pipeline/progress.ts';
export * from './pipeline/shard-vectors.ts';
export { parsePlan } from './plan/make-plan.ts';
export * from './plan/plan.ts';
export { type Percentiles, type QcHistograms, type QcSummary, type QcValues, qcSummary } from './plan/qc.ts';
export { canonicalJson, parseRecipe, recipeId, slideKey } from './plan/recipe.ts';
export { type BullQueue, type BullQueueOptions, openBullQueue, type QueueStats } from './queue/bullmq.ts';
export { memoryQueue } from './queue/memory.ts';
export type * from './queue/queue.ts';
export { parseRedisUrl, type RedisTarget } from './queue/redis-options.ts';
export type { TileRows } from './record/arrow.ts';
export type { Blobs, Body } from './record/blobs.ts';
export { type FileBlobsOptions, fileBlobs } from './record/files.ts';
export { openRecord, type Record, type SlideFailures } from './record/record.ts';
export { datasetDigest, datasetHash, type RunFile, runId, type SlideMetadata } from './record/run.ts';
export type { TileFailure, TileFile, TileFileInfo } from './record/tile-file.ts';
export { type Finding, type FindingCode, type VerifyReport, verifyRecord } from './record/verify.ts';
export { type ListOptions, listSources, SLIDE_EXTENSIONS } from './source/list.ts';
export { readManifest, type SourceEntry } from './source/manifest.ts';
export { indexSlide, indexSlides } from './store/index-slides.ts';
export type * from './store/store.ts';
export * from './units.ts';
