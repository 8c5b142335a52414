import { Notification } from "@jupyterlab/apputils";
import { nullTranslator } from "@jupyterlab/translation";
import { CommandRegistry } from "@lumino/commands";
import { Signal } from "@lumino/signaling";

import { wordsOf } from "../components/words";
import { ComputeHub } from "../models/hub";
import type { Notice } from "../models/notices";
import { Preferences } from "../models/preferences";
import { NoticeToasts } from "../widgets/noticeToasts";
import { FakeServer, lease, moveOf, offer, refusal } from "./server";

const words = wordsOf(nullTranslator.load("computehub"), "en");
const events = { stream: { connect: () => true, disconnect: () => true } };
const approval = {
  id: "apr_1",
  state: "pending",
  purpose: "1 × A100 until 2026-03-02T11:00:00Z",
  amount_microcredits: 8_000_000,
  notebook_path: "train.ipynb",
};

/** Notices that say what a test wants. */
class Board {
  readonly changed = new Signal<this, void>(this);
  readonly current = new Map<string, Notice>();
  put(notice: unknown): void {
    this.current.set((notice as Notice).id, notice as Notice);
    this.changed.emit();
  }
}

function toastsOn(server: FakeServer, moves: unknown = null) {
  const hub = new ComputeHub({ events, serverSettings: server.settings } as never);
  const board = new Board();
  const preferences = new Preferences();
  const commands = new CommandRegistry();
  const toasts = new NoticeToasts({ hub, moves, notices: board, preferences, words, commands } as never);
  return { hub, board, commands, preferences, toasts };
}

const shown = () => Notification.manager.notifications.map(({ message }) => message);

afterEach(() => Notification.dismiss());

describe("NoticeToasts", () => {
  it("asks again where an answer did not arrive, with times as people read them", async () => {
    const server = new FakeServer().on("POST approvals/apr_1/approve", () => refusal(502, "unreachable", "Gone."));
    const { board, hub, toasts } = toastsOn(server);
    board.put({ id: "approval:apr_1", kind: "approval", approval });
    expect(shown()[0]).toContain("asks to spend 8.00 credits");
    expect(shown()[0]).not.toContain("2026-03-02T");
    const [asked] = Notification.manager.notifications;
    const told = new Promise<void>((resolve) => {
      const look = () => {
        if (shown().filter((message) => message.includes("asks to spend")).length > 1) {
          Notification.manager.changed.disconnect(look);
          resolve();
        }
      };
      Notification.manager.changed.connect(look);
    });
    asked!.options.actions![0]!.callback(new MouseEvent("click"));
    await told;
    expect(shown()).toContain("The Jupyter server does not answer. What you see may be old.");
    toasts.dispose();
    hub.dispose();
  });

  it("offers a place with more room after a kernel needed more memory than it had", async () => {
    const { board, commands, hub, toasts } = toastsOn(new FakeServer());
    const moved: unknown[] = [];
    commands.addCommand("computehub:move-notebook", { execute: (args) => moved.push(args) });
    const roomier = offer({ model: "V100", kernel_limits: { memory_mib: 16_384, cpus: 4 } });
    const said = "The kernel was ended: it needed more than its 4 GiB of main memory (RAM).";
    const ended = lease({ state: "closed", end_reason: "out_of_memory", end_message: said, roomier });
    board.put({ id: "ended:1", kind: "ended", lease: ended });
    expect(shown()[0]).toContain(said);
    expect(shown()[0]!.length).toBeLessThan(140); // where JupyterLab cuts
    const [move] = Notification.manager.notifications[0]!.options.actions!;
    expect([move!.label, move!.caption]).toEqual(["Move to V100…", "16 GiB RAM, 4 cores, 1.00 credits an hour"]);
    move!.callback(new MouseEvent("click"));
    await Promise.resolve();
    expect(moved).toEqual([{ kernel_id: "kernel-1", model: "V100", count: 1 }]);
    toasts.dispose();
    hub.dispose();
  });

  it("takes warnings away when a person wants none", () => {
    const { board, hub, preferences, toasts } = toastsOn(new FakeServer());
    board.put({ id: "ending:1", kind: "ending", lease: lease(), isUrgent: false, extraSeconds: 900 });
    expect(shown()).toHaveLength(1);
    preferences.follow({
      get: (name: string) => ({ composite: name === "showWarnings" ? false : undefined }),
      changed: { connect: () => true, disconnect: () => true },
    } as never);
    expect(shown()).toHaveLength(0);
    toasts.dispose();
    hub.dispose();
  });

  it("tells of a move that failed, unless this tab follows that very one", () => {
    const failed = moveOf({ id: "switch_2", state: "failed" });
    const earlier = { isEnded: true, value: moveOf() };
    const { board, hub, toasts } = toastsOn(new FakeServer(), { of: () => earlier });
    board.put({ id: "failed:switch_1", kind: "failed", move: moveOf({ state: "failed" }) });
    expect(shown()).toHaveLength(0);
    board.put({ id: "failed:switch_2", kind: "failed", move: failed });
    expect(shown()).toHaveLength(1);
    toasts.dispose();
    hub.dispose();
  });
});
