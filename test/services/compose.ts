import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { installs, onPath } from './process.ts';

/** The library that reads and checks the file for `docker compose config`, and where its own command is built. */
const RELEASE = 'v2.16.2';
const folder = join(import.meta.dirname, `../../.venv-test/compose-go-${RELEASE}`);

/** A program that does what `docker compose config` does. None needs a Docker engine. */
export interface Compose {
  readonly name: string;
  /** The file as Compose understands it, every service and variable in; throws with Compose's words when it refuses the file. */
  config(file: string): { readonly services: Readonly<Record<string, unknown>> };
}

/**
 * Every such program here: `docker compose`, `docker-compose` (2 or later), and the command of compose-go, which is built
 * into `.venv-test` where there is a Go to do it.
 */
export function composePrograms(): readonly Compose[] {
  const found: Compose[] = [];
  for (const [command, ...words] of [['docker', 'compose'], ['docker-compose']] as const) {
    if (onPath(command) === null) continue;
    const { stdout } = spawnSync(command, [...words, 'version', '--short'], { encoding: 'utf8' });
    if (!/^(v?[2-9]|dev)/.test(stdout)) continue;
    found.push({
      name: [command, ...words].join(' '),
      config: (file) => json(command, [...words, '-f', file, '--profile', '*', 'config', '--format', 'json']),
    });
  }
  if (installComposeGo()) {
    found.push({ name: 'compose-go', config: (file) => json(join(folder, 'cmd'), ['-format', 'json', file]) });
  }
  return found;
}

/** Builds compose-go's command where there is a Go to do it: Debian 12 has no package of Compose 2. */
export function installComposeGo(): boolean {
  if (existsSync(join(folder, 'cmd'))) return true;
  if (onPath('go') === null) return false;
  const source = `github.com/compose-spec/compose-go/v2/cmd@${RELEASE}`;
  return installs('env', [`GOBIN=${folder}`, 'CGO_ENABLED=0', 'go', 'install', source]);
}

const json = (command: string, args: readonly string[]) =>
  JSON.parse(execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe' }));
