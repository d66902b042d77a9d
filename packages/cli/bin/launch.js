// Plain JavaScript: runs on any Node, and hands over to one that runs TypeScript sources.
import { spawn } from 'node:child_process';
import module, { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [major] = process.versions.node.split('.').map(Number);

/**
 * Runs a TypeScript program with this process's arguments.
 *
 * @param {URL} main
 */
export async function launch(main) {
  cacheCompiledCode();
  if (major >= 24) await import(main.href);
  else handOver(pinnedNode(), [fileURLToPath(main), ...process.argv.slice(2)]);
}

/**
 * Node keeps what it compiled, here and in child processes: half of a start is compiling the same files. In a folder of the user's own, since
 * code is run from it; where it cannot be written nothing is kept.
 */
function cacheCompiledCode() {
  const { env } = process;
  if (env.NODE_COMPILE_CACHE !== undefined || env.NODE_DISABLE_COMPILE_CACHE !== undefined) return;
  // Without HOME, and of a user that the system does not list, there is no such folder.
  const cache = env.XDG_CACHE_HOME || (env.HOME && join(env.HOME, '.cache'));
  if (!cache) return;
  env.NODE_COMPILE_CACHE = join(cache, 'nightshift', 'compiled');
  module.enableCompileCache?.(env.NODE_COMPILE_CACHE);
}

/** The binary of the `node` package, which `npm ci` installs beside this one. */
function pinnedNode() {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('node/package.json')), 'bin', 'node');
  } catch {
    process.stderr.write(
      `error[usage]: this is Node ${process.versions.node}, and the pinned Node 24 is not installed\n` +
        'next: run npm ci in the checkout, or use Node 24 or later\n',
    );
    process.exit(4);
  }
}

/** Runs the command in place of this process: same streams, signals passed on, same end. */
function handOver(command, args) {
  const child = spawn(command, args, { stdio: 'inherit' });
  const forward = (signal) => child.kill(signal);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, forward);
  child.on('error', (error) => {
    process.stderr.write(`error[internal]: cannot start ${command}: ${error.message}\nnext: run npm ci again\n`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
    for (const name of signals) process.off(name, forward);
  });
}
