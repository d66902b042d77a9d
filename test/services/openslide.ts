import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { installs, onPath, succeeds } from './process.ts';

const folder = join(import.meta.dirname, '../../.venv-test');

/** Releases of the package `openslide-bin` that the tests use: one that is good, and one that is too old. */
export const OPENSLIDE = { good: '4.0.1.2', old: '4.0.0.8' } as const;

/** The path of OpenSlide's library in such a release, got with pip into `.venv-test/openslide-<release>` if need be. */
export function openSlideLibrary(release: string): string {
  const own = join(folder, `openslide-${release}`);
  const library = join(own, 'openslide_bin/libopenslide.so.1');
  if (existsSync(library)) return library;
  const venv = join(folder, 'pip');
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--target', own];
  const installed =
    onPath('python3') !== null &&
    (existsSync(join(venv, 'bin/python')) || succeeds('python3', ['-m', 'venv', venv])) &&
    installs(join(venv, 'bin/python'), [...pip, `openslide-bin==${release}`]);
  if (installed && existsSync(library)) return library;
  throw new Error(
    `The tests need OpenSlide and found none. Type:\n  pip install --target ${own} --no-deps openslide-bin==${release}`,
  );
}
