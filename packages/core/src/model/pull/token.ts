import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { NightshiftError } from '../../errors.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** `HF_HOME`, else where the hub's own tools keep token and cache. */
export const hubHome = (env: Environment): string =>
  env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');

/**
 * The token of the hub, from where its own tools keep it: HF_TOKEN, else the file of `hf auth login`. Null where there is none.
 * `file` comes before all of that.
 *
 * @throws NightshiftError `hub-token` for a named file without a token. The token itself is never part of an error
 */
export async function findToken(env: Environment, file: string | null = null): Promise<string | null> {
  if (file !== null) {
    const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
      throw new NightshiftError('hub-token', `${file} cannot be read (${cause.code})`, { cause });
    });
    return checked(text, file);
  }
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']) {
    if (env[name]) return checked(env[name], name);
  }
  if (/^(1|on|yes|true)$/i.test(env.HF_HUB_DISABLE_IMPLICIT_TOKEN ?? '')) return null;
  const path = env.HF_TOKEN_PATH || join(hubHome(env), 'token');
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trim() === '' ? null : checked(text, path);
}

function checked(text: string, where: string): string {
  const token = text.trim();
  if (/^[\x21-\x7e]{1,500}$/.test(token)) return token;
  throw new NightshiftError('hub-token', `${where} holds no token: it must be one line without spaces`);
}
