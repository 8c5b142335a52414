import { act, cleanup, render, screen } from "@testing-library/react";

import { ServerPartNote } from "../components/serverPart";
import { ApiError } from "../api/errors";
import { ComputeHub } from "../models/hub";
import { FakeServer, person } from "./server";

afterEach(cleanup);

const events = { stream: { connect: () => true, disconnect: () => true } };

function hubOf(server: FakeServer, isThere = true): ComputeHub {
  return new ComputeHub({ events, serverSettings: server.settings } as never, isThere);
}

function note(part: ComputeHub["serverPart"], error: ApiError | null = null, onRetry = () => undefined) {
  render(<ServerPartNote part={part} error={error} version="0.0.9" onRetry={onRetry} />);
  return screen.getByRole("alert").textContent ?? "";
}

describe("the server part", () => {
  it("that the page says is missing is asked for nothing", async () => {
    const server = new FakeServer();
    const hub = hubOf(server, false);
    await act(() => hub.me.refresh());
    await expect(hub.client.listOffers()).rejects.toMatchObject({ code: "missing" });
    expect(hub.serverPart).toBe("missing");
    expect(server.asked).toHaveLength(0);
    hub.dispose();
  });

  it("is known to be missing, old, unreachable or ready by its first answer", async () => {
    const server = new FakeServer();
    const hub = hubOf(server);
    await hub.me.refresh();
    expect(hub.serverPart).toBe("missing");
    server.on("GET me", () => ({ body: { ...person(), limits: undefined } }));
    await hub.me.refresh();
    expect(hub.serverPart).toBe("old");
    server.on("GET me", () => ({ status: 503, body: { message: "starting", code: "unavailable", details: {} } }));
    await hub.me.refresh();
    expect(hub.serverPart).toBe("unreachable");
    server.on("GET me", () => ({ body: person({ limits: {} as never }) }));
    await hub.me.refresh();
    expect(hub.serverPart).toBe("ready");
    hub.dispose();
  });

  it("is told of in one sentence or two, with what helps", () => {
    expect(note("missing")).toContain("Your notebooks work as always");
    cleanup();
    expect(note("old")).toContain("ComputeHub 0.0.9 on this Jupyter server is older");
    cleanup();
    expect(note("unreachable", new ApiError("unreachable", "no"))).toContain("does not answer");
    expect(screen.getByRole("button", { name: "Try again" })).toBeTruthy();
  });
});
