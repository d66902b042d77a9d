/**
 * Watches for the notice that EC2 gives two minutes before it takes a Spot instance back, as AWS advises: every 5 seconds, with a
 * session token (IMDSv2). Elsewhere the notice is a SIGTERM, which needs no watching.
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
 */
export function watchSpotNotice(options: {
  /** `http://169.254.169.254` on EC2. */
  readonly metadata: string;
  readonly everyMs: number;
  /** Called once, with the action: `terminate`, `stop` or `hibernate`. */
  readonly onNotice: (action: string) => void;
}): { close(): void } {
  const { metadata, everyMs, onNotice } = options;
  let token: { value: string; until: number } | null = null;

  async function tokenNow(): Promise<string> {
    if (!token || performance.now() > token.until) {
      const answer = await fetch(`${metadata}/latest/api/token`, {
        method: 'PUT',
        headers: { 'x-aws-ec2-metadata-token-ttl-seconds': '600' },
        signal: AbortSignal.timeout(2000),
      });
      token = { value: await answer.text(), until: performance.now() + 540_000 };
    }
    return token.value;
  }

  async function look(): Promise<void> {
    const answer = await fetch(`${metadata}/latest/meta-data/spot/instance-action`, {
      headers: { 'x-aws-ec2-metadata-token': await tokenNow() },
      signal: AbortSignal.timeout(2000),
    });
    if (!answer.ok) return;
    const { action } = (await answer.json()) as { action?: unknown };
    clearInterval(timer);
    onNotice(typeof action === 'string' ? action : 'terminate');
  }

  // The service is best effort: one that does not answer now is asked again.
  const timer = setInterval(() => void look().catch(() => {}), everyMs);
  timer.unref();
  return { close: () => clearInterval(timer) };
}
