import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection } from "@jupyterlab/services";
import { UUID } from "@lumino/coreutils";

import { ApiError } from "./errors";

const ROOT = "api/computehub/v1";
const TIMEOUT_SECONDS = 30;

export interface RequestOptions {
  method?: "GET" | "POST" | "PUT";
  query?: Readonly<Record<string, string | number | undefined>>;
  body?: unknown;
  /** The `Idempotency-Key`: the same for each try of one wish, so that a repeated click or a lost answer books once. */
  key?: string;
  timeoutSeconds?: number;
}

/** A new idempotency key. Make one when a person decides, and keep it until the answer is known. */
export function newKey(): string {
  return UUID.uuid4();
}

/** The address of a route, for links that the browser itself follows (a download). */
export function addressOf(settings: ServerConnection.ISettings, path: string): string {
  return URLExt.join(settings.baseUrl, ROOT, path);
}

/**
 * Ask the control plane for something.
 *
 * @throws ApiError, always: no other error leaves this function.
 */
export async function request<Answer>(
  settings: ServerConnection.ISettings,
  path: string,
  { method = "GET", query = {}, body, key, timeoutSeconds = TIMEOUT_SECONDS }: RequestOptions = {},
): Promise<Answer> {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const address = addressOf(settings, path) + URLExt.objectToQueryString(Object.fromEntries(given) as never);
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutSeconds * 1000);
  try {
    const headers: Record<string, string> = key ? { "Idempotency-Key": key } : {};
    const init: RequestInit = { method, headers, signal: abort.signal, cache: "no-store" };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      // A text by itself would be sent as plain text, which the server refuses.
      headers["Content-Type"] = "application/json";
    }
    const response = await ServerConnection.makeRequest(address, init, settings);
    return await read<Answer>(response);
  } catch (reason) {
    if (reason instanceof ApiError) {
      throw reason;
    }
    if (abort.signal.aborted) {
      throw new ApiError("timeout", `No answer within ${timeoutSeconds} seconds.`);
    }
    throw new ApiError("unreachable", "The Jupyter server does not answer.");
  } finally {
    clearTimeout(timer);
  }
}

async function read<Answer>(response: Response): Promise<Answer> {
  if (response.status === 204) {
    return undefined as Answer;
  }
  const text = await response.text();
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    const code = response.status === 404 ? "missing" : "unreadable";
    throw new ApiError(code, `The server answered ${response.status} without a reason.`, response.status);
  }
  if (response.ok) {
    return data as Answer;
  }
  const { message, code, details } = (data ?? {}) as Partial<{ message: string; code: string; details: object }>;
  const known = typeof code === "string";
  throw new ApiError(
    // Jupyter's own 404 is JSON without a code: the extension isn't there.
    known ? code : response.status === 404 ? "missing" : "unreadable",
    message ?? `The server answered ${response.status}.`,
    response.status,
    { ...details },
    Number(response.headers.get("Retry-After")) || null,
  );
}
