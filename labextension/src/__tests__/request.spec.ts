import { ApiError } from "../api/errors";
import { ComputeHubClient } from "../api/client";
import { request } from "../api/request";
import { FakeServer, person, refusal } from "./server";

const failure = (promise: Promise<unknown>): Promise<ApiError> =>
  promise.then(
    () => {
      throw new Error("it was not refused");
    },
    (reason) => reason,
  );

describe("request", () => {
  it("hands on the key, the body and the query", async () => {
    const server = new FakeServer().on("POST bookings", () => ({ status: 201, body: {} }));
    await request(server.settings, "bookings", { method: "POST", body: { count: 2 }, key: "k1" });
    await failure(request(server.settings, "history", { query: { limit: 5, cursor: undefined } }));
    expect(server.asked[0]).toMatchObject({ method: "POST", body: { count: 2 }, key: "k1" });
    expect(server.asked[0]?.contentType).toBe("application/json");
    expect(server.asked[1]).toMatchObject({ path: "history", query: { limit: "5" }, key: null });
  });

  it("tells a refusal with its code, field and details", async () => {
    const server = new FakeServer().on("POST bookings", () =>
      refusal(422, "invalid", "count must be at least 1, not 0.", { field: "count" }),
    );
    const error = await failure(new ComputeHubClient(server.settings).book({ count: 0 }));
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: "invalid", status: 422, field: "count", isTransient: false });
  });

  it("knows a server without ComputeHub from a thing that is not there", async () => {
    const server = new FakeServer().on("GET leases/x", () => refusal(404, "not_found", "There is no such lease."));
    const client = new ComputeHubClient(server.settings);
    expect(await failure(client.getMe())).toMatchObject({ code: "missing" });
    expect(await failure(client.getLease("x"))).toMatchObject({ code: "not_found" });
  });

  it("waits as long as the server asks for", async () => {
    const server = new FakeServer().on("GET me", () => ({
      ...refusal(429, "too_many_requests", "Too often."),
      headers: { "Retry-After": "7" },
    }));
    expect(await failure(new ComputeHubClient(server.settings).getMe())).toMatchObject({
      retryAfterSeconds: 7,
      isTransient: true,
    });
  });

  it("says when nothing answers, and when nothing answers in time", async () => {
    const gone = new FakeServer().on("GET me", () => Promise.reject(new TypeError("Failed to fetch")));
    expect(await failure(new ComputeHubClient(gone.settings).getMe())).toMatchObject({ code: "unreachable" });
    const server = new FakeServer();
    const silent = { ...server.settings, fetch: silence } as unknown as typeof server.settings;
    expect(await failure(request(silent, "me", { timeoutSeconds: 0.01 }))).toMatchObject({ code: "timeout" });
  });

  it("keeps a person's names with odd letters in their place in the address", async () => {
    const server = new FakeServer().on("GET leases/a%2Fb%3Fc", () => ({ body: person() }));
    await new ComputeHubClient(server.settings).getLease("a/b?c");
    expect(server.asked[0]?.path).toBe("leases/a%2Fb%3Fc");
  });
});

/** A fetch that only ever ends by being aborted. */
const silence = (request: Request): Promise<Response> =>
  new Promise((_resolve, reject) => {
    request.signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
  });
