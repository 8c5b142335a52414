import { act, render, screen } from "@testing-library/react";
import { ServerConnection } from "@jupyterlab/services";

import { wordsOf } from "../components/words";
import { connect } from "../widgets/leaseTerminal";
import { MoveDialogContent } from "../widgets/moveDialog";
import { LogText } from "../widgets/logText";

const words = wordsOf({ __: (text: string) => text, _n: (one: string) => one } as never, "en");

describe("the terminal's connection", () => {
  it("goes to the lease, not to Jupyter's own terminals, and asks nothing else", () => {
    const opened: string[] = [];
    class Socket {
      onopen = null;
      constructor(url: string) {
        opened.push(url);
      }
      close() {
        opened.push("closed");
      }
    }
    const fetch = jest.fn();
    const settings = ServerConnection.makeSettings({
      baseUrl: "http://host/user/ada/",
      wsUrl: "ws://host/user/ada/",
      WebSocket: Socket as never,
      fetch,
      token: "",
    });
    const connection = connect(settings, "lease_1");
    const other = connect(settings, "lease_1");
    expect(opened[0]).toBe(
      `ws://host/user/ada/api/computehub/v1/leases/lease_1/terminals/websocket/${connection.name}`,
    );
    expect(connection.name).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
    expect(other.name).not.toBe(connection.name);
    connection.dispose();
    other.dispose();
    expect(opened.filter((each) => each === "closed")).toHaveLength(2);
    expect(fetch).not.toHaveBeenCalled();
  });
});

describe("LogText", () => {
  beforeEach(() => jest.useFakeTimers());
  afterEach(() => jest.useRealTimers());
  const log = (text: string) => ({ lease_id: "lease_1", kept: true, text });

  it("goes on as the start goes on, and stops with its dialog", async () => {
    const read = jest.fn().mockRejectedValueOnce(new Error("away")).mockResolvedValue(log("pulling, started"));
    const { unmount } = render(<LogText words={words} first={log("pulling")} read={read} />);
    expect(screen.getByText("pulling")).toBeTruthy();
    await act(() => jest.advanceTimersByTimeAsync(2000));
    expect(screen.getByText("pulling")).toBeTruthy();
    await act(() => jest.advanceTimersByTimeAsync(2000));
    expect(screen.getByText("pulling, started")).toBeTruthy();
    unmount();
    await jest.advanceTimersByTimeAsync(10_000);
    expect(read).toHaveBeenCalledTimes(2);
  });

  it("is not asked for again once it is all there is", async () => {
    render(<LogText words={words} first={log("")} />);
    expect(screen.getByText("The kernel wrote nothing outside its cells.")).toBeTruthy();
    await jest.advanceTimersByTimeAsync(10_000);
  });
});

describe("a move whose start failed", () => {
  it("offers the log of that start", async () => {
    const onLog = jest.fn();
    const signal = { connect: () => true, disconnect: () => true };
    const move = { phase: "failed", wish: { target: "gpu", keep: "all" }, isAskedHere: true, error: null };
    const value = { target: "gpu", lease_id: "lease_7", error: { message: "It died.", code: "refused", details: {} } };
    const props = {
      hub: { clock: { now: () => 0 } },
      moves: { changed: signal, of: () => ({ ...move, value }) },
      notebook: { changed: signal, watch: () => ({ dispose: () => undefined }), kernelId: "k", value: null },
      onClose: jest.fn(),
      onLog,
    };
    render(<MoveDialogContent {...(props as unknown as Parameters<typeof MoveDialogContent>[0])} />);
    screen.getByRole("button", { name: "Log of the start" }).click();
    expect(props.onClose).toHaveBeenCalled();
    expect(onLog).toHaveBeenCalledWith("lease_7");
  });
});
