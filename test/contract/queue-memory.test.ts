import { memoryQueue } from '@nightshift/core';
import { queueContract } from './queue.ts';

queueContract('memory', async () => memoryQueue({ attempts: 3, backoffMs: 5 }));
