import type { Event } from "@jupyterlab/services";
import { Signal } from "@lumino/signaling";

import type { Switch, SwitchRequest } from "../api/types";
import { lacksOf } from "../components/moveResult";
import { ComputeHub } from "../models/hub";
import { costNow, secondsLeft, urgencyOf } from "../models/meter";
import { insistOn, modelsOf, newDraft, wishOf } from "../models/moveDraft";
import type { Move } from "../models/moves";
import { Moves } from "../models/moves";
import { Previewer } from "../models/previewer";
import { FakeServer, lease, moveOf, offer, refusal } from "./server";

const stream = new Signal<object, Event.Emission>({});

function hubOn(server: FakeServer): ComputeHub {
  const events = { stream } as unknown as Event.IManager;
  return new ComputeHub({ events, serverSettings: server.settings });
}

/** Wait until a move is in a phase. */
async function until(move: Move, phase: Move["phase"]): Promise<void> {
  while (move.phase !== phase) {
    await new Promise<void>((resolve) => {
      const tell = () => {
        move.changed.disconnect(tell);
        resolve();
      };
      move.changed.connect(tell);
    });
  }
}

const wish = { target: "gpu" as const, model: "A100" };

describe("Move", () => {
  it("is asked for once, and followed to its end", async () => {
    let state: Switch["state"] = "starting";
    const server = new FakeServer()
      .on("POST switches", () => ({ status: 202, body: moveOf() }))
      .on("GET switches/switch_1", () => ({ body: moveOf({ state }) }));
    const hub = hubOn(server);
    const moves = new Moves(hub);
    const move = moves.begin("kernel-1", wish);
    expect(moves.begin("kernel-1", wish)).toBe(move);
    await until(move, "moving");
    state = "done";
    stream.emit({ schema_id: "urn:computehub:event:switch:v1", action: "done", switch_id: "switch_1" });
    await until(move, "done");
    expect(server.count("POST switches")).toBe(1);
    expect(server.asked[0]?.body).toMatchObject({ kernel_id: "kernel-1", model: "A100" });
    hub.dispose();
  });

  it("asks again with the key of the first time when the answer was lost", async () => {
    let isFirst = true;
    const server = new FakeServer()
      .on("POST switches", () => {
        if (isFirst) {
          isFirst = false;
          throw new TypeError("Failed to fetch");
        }
        return { status: 202, body: moveOf() };
      })
      .on("GET switches/switch_1", () => ({ body: moveOf() }));
    const hub = hubOn(server);
    const move = new Moves(hub).begin("kernel-1", wish);
    await until(move, "refused");
    expect(move.error).toMatchObject({ code: "unreachable", isTransient: true });
    void move.begin();
    void move.begin();
    await until(move, "moving");
    const keys = server.asked.filter(({ method }) => method === "POST").map(({ key }) => key);
    expect(keys).toHaveLength(2);
    expect(new Set(keys).size).toBe(1);
    move.dispose();
    hub.dispose();
  });

  it("tells a refusal in the server's words", async () => {
    const server = new FakeServer().on("POST switches", () =>
      refusal(402, "insufficient_credits", "This needs 8.00 credits, and you have 2.00."),
    );
    const hub = hubOn(server);
    const move = new Moves(hub).begin("kernel-1", wish);
    await until(move, "refused");
    expect(move.error?.message).toMatch(/8.00 credits/);
    hub.dispose();
  });

  it("is cancelled once, and goes on where it is too late", async () => {
    const server = new FakeServer()
      .on("POST switches", () => ({ status: 202, body: moveOf() }))
      .on("GET switches/switch_1", () => ({ body: moveOf({ state: "swapping" }) }))
      .on("POST switches/switch_1/cancel", () => refusal(409, "illegal_move", "It is swapping."));
    const hub = hubOn(server);
    const move = new Moves(hub).begin("kernel-1", wish);
    await until(move, "moving");
    await Promise.all([move.cancel(), move.cancel()]);
    expect(server.count("POST switches/switch_1/cancel")).toBe(1);
    expect(move).toMatchObject({ phase: "moving", isCancelling: false });
    move.dispose();
    hub.dispose();
  });

  it("says so when the server that knew of it was restarted", async () => {
    const server = new FakeServer()
      .on("POST switches", () => ({ status: 202, body: moveOf() }))
      .on("GET switches/switch_1", () => refusal(404, "not_found", "There is no switch switch_1 of yours."));
    const hub = hubOn(server);
    const move = new Moves(hub).begin("kernel-1", wish);
    await until(move, "lost");
    expect(move.isEnded).toBe(true);
    hub.dispose();
  });
});

describe("Moves", () => {
  it("tells of the one whose place another took, so that nothing goes on to show it", async () => {
    const server = new FakeServer().on("POST switches", () => refusal(409, "conflict", "Not now."));
    const hub = hubOn(server);
    const moves = new Moves(hub);
    const first = moves.begin("kernel-1", wish);
    await until(first, "refused");
    const told: unknown[] = [];
    moves.changed.connect((_, move) => told.push(moves.of("kernel-1") === move ? "current" : move));
    const second = moves.begin("kernel-1", wish);
    expect(told[0]).toBe(first);
    expect(first.isDisposed).toBe(true);
    await until(second, "refused");
    moves.dispose();
    hub.dispose();
  });
});

describe("the form's wish", () => {
  it("names what was chosen and nothing else", () => {
    expect(wishOf(newDraft("cpu"), "k")).toEqual({ target: "cpu", kernel_id: "k", keep: "all" });
    const draft = { ...newDraft("gpu"), model: "T4", durationSeconds: 3600, maxRate: "2.5", acceptsLoss: true };
    expect(wishOf({ ...draft, keep: "some", names: ["x"] }, "k")).toEqual({
      target: "gpu",
      kernel_id: "k",
      keep: ["x"],
      model: "T4",
      count: 1,
      duration_seconds: 3600,
      max_rate_microcredits_per_hour: 2_500_000,
      accept_loss: true,
    });
  });

  it("offers each model once, what is free first and the cheaper before the dearer", () => {
    const offers = [
      offer({ model: "A100", rate_microcredits_per_hour: 4_000_000 }),
      offer({ model: "T4", free_now: 0 }),
      offer({ model: "T4", pool_id: "other", rate_microcredits_per_hour: 2_000_000 }),
      offer({ model: "V100", free_now: 0, rate_microcredits_per_hour: 500_000 }),
    ];
    expect(modelsOf(offers).map(({ model, pool_id }) => [model, pool_id])).toEqual([
      ["T4", "other"],
      ["A100", "pool_t4"],
      ["V100", "pool_t4"],
    ]);
  });
});

describe("Previewer", () => {
  it("shows the answer to the last wish, whichever comes first", async () => {
    const answers: ((body: object) => void)[] = [];
    const server = new FakeServer().on(
      "POST switches/preview",
      () => new Promise((resolve) => answers.push((body) => resolve({ body }))),
    );
    const previewer = new Previewer(hubOn(server).client);
    const answered = (model: string) => ({ preview: null, quote: { model }, problem: null, busy: false, waits: null });
    const asked = async (times: number) => {
      while (answers.length < times) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    previewer.ask({ target: "gpu", model: "T4" });
    await asked(1);
    previewer.ask({ target: "gpu", model: "A100" });
    await asked(2);
    answers[1]!(answered("A100"));
    while (previewer.isAsking) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    answers[0]!(answered("T4"));
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(previewer.answer?.quote?.model).toBe("A100");
    previewer.dispose();
  });
});

it("shows no price where the last question failed", async () => {
  const server = new FakeServer().on("POST switches/preview", () => ({
    body: { preview: null, quote: { model: "T4" }, problem: null, busy: false, waits: null },
  }));
  const previewer = new Previewer(hubOn(server).client);
  const answered = () =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!previewer.isAsking) {
          previewer.changed.disconnect(look);
          resolve();
        }
      };
      previewer.changed.connect(look);
    });
  previewer.ask({ target: "gpu", model: "T4" });
  await answered();
  expect(previewer.answer?.quote?.model).toBe("T4");
  server.on("POST switches/preview", () => refusal(502, "unreachable", "Gone."));
  previewer.ask({ target: "gpu", model: "A100" });
  await answered();
  expect(previewer).toMatchObject({ answer: null, error: { code: "unreachable" } });
  previewer.dispose();
});

describe("the meter", () => {
  const at = (time: string) => Date.parse(`2026-03-02T${time}Z`);

  it("counts all devices on from the server's word, and no further than what was held", () => {
    const running = lease({ count: 2, held_microcredits: 1_500_000, cost_microcredits: 500_000 });
    expect(costNow(running, at("09:07:30"))).toBe(500_000);
    expect(costNow(running, at("09:09:00"))).toBe(700_000);
    expect(costNow(running, at("12:00:00"))).toBe(1_500_000);
    expect(costNow(lease({ started_at: null, cost_microcredits: 0 }), at("10:00:00"))).toBe(0);
  });

  it("tells how near the end is", () => {
    expect(secondsLeft(lease(), at("10:59:00"))).toBe(60);
    expect([at("10:00:00"), at("10:50:00"), at("10:58:00")].map((now) => urgencyOf(lease(), now))).toEqual([
      "calm",
      "soon",
      "urgent",
    ]);
  });
});

describe("the same wish all the same", () => {
  const lost = [{ name: "lock", reason: "a lock" }];
  const problems = [{ message: "The folder data is not there." }];
  const wish = { target: "cpu", kernel_id: "k", keep: "all" } as const;
  const failed = (details: object) =>
    lacksOf(moveOf({ state: "failed", error: { code: "loss_not_accepted", message: "", details: details as never } }));

  it("says yes to what was shown alone", () => {
    expect(insistOn(wish, failed({ lost, problems: [] }))).toEqual({
      ...wish,
      accept_loss: true,
      accept_problems: false,
    });
    expect(insistOn(wish, failed({ problems }))).toEqual({ ...wish, accept_loss: false, accept_problems: true });
    expect(insistOn(wish, failed({ lost, problems }))).toEqual({ ...wish, accept_loss: true, accept_problems: true });
    expect(insistOn(wish, failed({ lost, problems: [], only_there: true }))).toEqual({
      ...wish,
      accept_failures: true,
    });
  });

  it("goes on saying what was said before", () => {
    const rounds = [{ problems }, { lost, problems: [], only_there: true }, { lost, problems: [] }, { problems: [] }];
    const said = rounds.reduce<SwitchRequest>((before, details) => insistOn(before, failed(details)), wish);
    expect(said).toEqual({ ...wish, accept_failures: true, accept_loss: true, accept_problems: true });
    const agreed = { ...wish, accept_loss: true };
    expect(insistOn(agreed, failed({ problems }))).toMatchObject({ accept_loss: true, accept_problems: true });
    expect(insistOn(agreed, lacksOf(null))).toEqual({ ...agreed, accept_problems: false });
  });
});
