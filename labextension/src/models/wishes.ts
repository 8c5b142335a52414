import { asApiError } from "../api/errors";
import { newKey } from "../api/request";

/**
 * Writes that happen once, however often they are asked for.
 *
 * A wish that is under way is joined, not sent again; one whose answer got lost is sent again with its old key, so that
 * the server knows it; one that was answered, either way, is over.
 */
export class Wishes {
  once<Answer>(wish: string, send: (key: string) => Promise<Answer>): Promise<Answer> {
    const running = this.running.get(wish);
    if (running) {
      return running as Promise<Answer>;
    }
    const key = this.keys.get(wish) ?? newKey();
    this.keys.set(wish, key);
    const answer = this.settle(wish, send(key));
    this.running.set(wish, answer);
    return answer;
  }

  private async settle<Answer>(wish: string, sent: Promise<Answer>): Promise<Answer> {
    try {
      const answer = await sent;
      this.keys.delete(wish);
      return answer;
    } catch (reason) {
      const error = asApiError(reason);
      if (!error.isTransient) {
        this.keys.delete(wish);
      }
      throw error;
    } finally {
      this.running.delete(wish);
    }
  }

  private keys = new Map<string, string>();
  private running = new Map<string, Promise<unknown>>();
}
