import { Notification } from "@jupyterlab/apputils";
import { nullTranslator } from "@jupyterlab/translation";
import { Signal } from "@lumino/signaling";

import type { Person } from "../api/types";
import { ComputeHub } from "../models/hub";
import { Preferences } from "../models/preferences";
import { SharedDefaults } from "../models/sharedDefaults";
import { defaults as plugin } from "../plugins/defaults";
import { FakeServer, person, refusal } from "./server";

const events = { stream: { connect: () => true, disconnect: () => true } };
const NOTHING = { idle_timeout_seconds: null, duration_seconds: null, max_rate_microcredits_per_hour: null };
const NEVER = { ...NOTHING, changed_at: null };
const AT = "2026-03-02T09:00:00Z";

/** JupyterLab's settings of one browser tab. */
class Settings {
  constructor(readonly values: Record<string, unknown> = {}) {}
  readonly changed = new Signal<this, void>(this);
  readonly set = jest.fn(async (name: string, value: unknown) => {
    this.values[name] = value;
    this.changed.emit();
  });
  get(name: string) {
    return { composite: this.values[name], user: this.values[name] };
  }
}

/** A server that keeps a person's defaults, and one tab of theirs; `there` is what others set, as the API has it. */
async function opened(here: Record<string, number>, there: object = NEVER, over: Partial<Person> = {}) {
  const kept = { defaults: { ...NEVER, ...there } as Person["defaults"] };
  const server = new FakeServer()
    .on("GET me", () => ({ body: person({ ...over, ...kept }) }))
    .on("PUT me/defaults", ({ body }) => {
      kept.defaults = { ...kept.defaults, ...(body as object), changed_at: AT };
      return { body: kept.defaults };
    });
  const hub = new ComputeHub({ events, serverSettings: server.settings } as never);
  const settings = new Settings({ ...here });
  const preferences = new Preferences();
  preferences.follow(settings as never);
  const shared = new SharedDefaults(hub, preferences);
  await hub.me.refresh();
  await settled();
  return { hub, kept, preferences, server, settings, shared };
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

const sent = ({ asked }: FakeServer) => asked.filter(({ method }) => method === "PUT").map(({ body }) => body);

describe("SharedDefaults", () => {
  it("sends a change of its own at once, and that one alone", async () => {
    const { hub, server, settings } = await opened({ idleMinutes: 0, durationMinutes: 0, calendarView: 1 });
    expect(sent(server)).toEqual([]);
    await settings.set("idleMinutes", 15);
    await settled();
    await settings.set("calendarView", 2);
    await settled();
    expect(sent(server)).toEqual([{ idle_timeout_seconds: 900 }]);
    expect(hub.me.value?.defaults.idle_timeout_seconds).toBe(900);
    await settings.set("idleMinutes", 0);
    await settled();
    expect(sent(server)[1]).toEqual({ idle_timeout_seconds: null });
  });

  it("knows credits and their parts", async () => {
    const there = { max_rate_microcredits_per_hour: 800_000, changed_at: AT };
    const { server, settings } = await opened({ maxCreditsPerHour: 0 }, there);
    expect(settings.values["maxCreditsPerHour"]).toBe(0.8);
    await settings.set("maxCreditsPerHour", 2.3);
    await settled();
    expect(sent(server)).toEqual([{ max_rate_microcredits_per_hour: 2_300_000 }]);
  });

  it("shows what was changed elsewhere, and does not send it back", async () => {
    const there = { idle_timeout_seconds: 1800, changed_at: AT };
    const { hub, kept, server, settings } = await opened({ idleMinutes: 15, durationMinutes: 60 }, there);
    expect(settings.values).toMatchObject({ idleMinutes: 30, durationMinutes: 0 });
    // Another window, while this one is open; half a minute is what a shell can set.
    kept.defaults = { ...kept.defaults, idle_timeout_seconds: 90 };
    await hub.me.refresh();
    await settled();
    await hub.me.refresh();
    await settled();
    expect(settings.values["idleMinutes"]).toBe(2);
    expect(settings.set).toHaveBeenCalledTimes(3);
    expect(sent(server)).toEqual([]);
  });

  it("sends what an owner chose before the server was told of any, and nobody's else", async () => {
    const owner = await opened({ idleMinutes: 15 }, NEVER, { identity: "owner" });
    expect(sent(owner.server)).toEqual([{ idle_timeout_seconds: 900 }]);
    expect(owner.settings.set).not.toHaveBeenCalled();
    const guest = await opened({ idleMinutes: 15 }, NEVER, { identity: "person" });
    expect(sent(guest.server)).toEqual([]);
    expect(guest.settings.values["idleMinutes"]).toBe(0);
    const back = await opened({ idleMinutes: 15 }, { changed_at: AT }, { identity: "owner" });
    expect(sent(back.server)).toEqual([]);
    expect(back.settings.values["idleMinutes"]).toBe(0);
  });

  it.each([
    [{ idleMinutes: 15, maxCreditsPerHour: 2.5 }],
    [{ durationMinutes: 90, maxCreditsPerHour: 2.5 }],
    [{ durationMinutes: 90, idleMinutes: 15, maxCreditsPerHour: 2.5 }],
  ])("sends all that an owner chose before the server was told of any, and erases none: %j", async (here) => {
    const { hub, kept, server, settings } = await opened(here, NEVER, { identity: "owner" });
    await hub.me.refresh();
    await settled();
    const told = {
      duration_seconds: "durationMinutes" in here ? 5400 : null,
      idle_timeout_seconds: "idleMinutes" in here ? 900 : null,
      max_rate_microcredits_per_hour: 2_500_000,
    };
    expect(kept.defaults).toEqual({ ...told, changed_at: AT });
    expect(sent(server)).toHaveLength(Object.keys(here).length);
    expect(settings.values).toEqual(here);
    expect(settings.set).not.toHaveBeenCalled();
  });

  it("keeps what an owner chose though the first of it is refused and another has to wait", async () => {
    const here = { durationMinutes: 90, idleMinutes: 15, maxCreditsPerHour: 2.5 };
    const { hub, kept, preferences, server, settings, shared } = await opened(here, { changed_at: AT });
    shared.dispose();
    Object.assign(settings.values, here);
    kept.defaults = { ...NEVER };
    const before = sent(server).length;
    const answers = [refusal(422, "invalid", "At most an hour."), undefined, refusal(503, "unavailable", "Starting.")];
    server.on("GET me", () => ({ body: person({ identity: "owner", ...kept }) }));
    server.on("PUT me/defaults", ({ body }) => {
      const refused = answers.shift();
      kept.defaults = refused ? kept.defaults : { ...kept.defaults, ...(body as object), changed_at: AT };
      return refused ?? { body: kept.defaults };
    });
    await hub.me.refresh();
    new SharedDefaults(hub, preferences);
    await settled();
    await hub.me.refresh();
    await settled();
    expect(settings.values).toEqual(here);
    expect(sent(server).slice(before)).toHaveLength(4);
    expect(kept.defaults).toMatchObject({ idle_timeout_seconds: 900, max_rate_microcredits_per_hour: 2_500_000 });
  });

  it("tells once what the server refuses, leaves it to be corrected, and is content when it is", async () => {
    const { hub, server, settings, shared } = await opened({});
    const kept = "The idle timeout is between 1 and 120 minutes.";
    const changed = jest.fn();
    shared.changed.connect(changed);
    server.on("PUT me/defaults", () => refusal(422, "invalid", kept, { field: "idle_timeout_seconds" }));
    await settings.set("idleMinutes", 300);
    await settled();
    await hub.me.refresh();
    await settled();
    expect(shared.failure?.message).toBe(kept);
    expect(sent(server)).toHaveLength(1);
    expect(settings.values["idleMinutes"]).toBe(300);
    server.on("PUT me/defaults", () => ({ body: { ...NEVER, idle_timeout_seconds: 1800, changed_at: AT } }));
    await settings.set("idleMinutes", 30);
    await settled();
    expect(shared.failure).toBeNull();
    expect(changed).toHaveBeenCalledTimes(2);
  });

  it("does not lose a change while the server is away", async () => {
    const { hub, server, settings, shared } = await opened({});
    const answers = [refusal(503, "unavailable", "Starting."), { body: { ...NEVER, idle_timeout_seconds: 600 } }];
    server.on("PUT me/defaults", () => answers.shift()!);
    await settings.set("idleMinutes", 10);
    await settled();
    expect(shared.failure?.isTransient).toBe(true);
    await hub.me.refresh();
    await settled();
    expect(sent(server)).toEqual([{ idle_timeout_seconds: 600 }, { idle_timeout_seconds: 600 }]);
    expect(settings.values["idleMinutes"]).toBe(10);
  });

  it("says nothing of a server that does not know of defaults", async () => {
    const { server, settings, shared } = await opened({ idleMinutes: 15 }, NEVER, { identity: "owner" });
    shared.dispose();
    const older = new FakeServer().on("GET me", () => ({ body: { ...person(), defaults: undefined } }));
    const hub = new ComputeHub({ events, serverSettings: older.settings } as never);
    const preferences = new Preferences();
    preferences.follow(settings as never);
    const quiet = new SharedDefaults(hub, preferences);
    await hub.me.refresh();
    await settled();
    expect([sent(older), quiet.failure, sent(server).length]).toEqual([[], null, 1]);
  });
});

describe("the plugin", () => {
  afterEach(() => Notification.dismiss());

  it("shows a failure with a way to try again, and takes it away when it is mended", async () => {
    const { hub, preferences, server, settings, shared } = await opened({});
    shared.dispose();
    const app = { restored: Promise.resolve() } as never;
    plugin.activate(app, hub as never, preferences as never, nullTranslator as never);
    await settled();
    server.on("PUT me/defaults", () => refusal(503, "unavailable", "ComputeHub is starting."));
    await settings.set("idleMinutes", 10);
    await settled();
    const [told] = Notification.manager.notifications;
    expect(told?.message).toBe("The server did not keep your setting. ComputeHub is starting.");
    server.on("PUT me/defaults", () => ({ body: { ...NEVER, idle_timeout_seconds: 600, changed_at: AT } }));
    told?.options.actions?.[0]?.callback(new MouseEvent("click"));
    await settled();
    expect(Notification.manager.notifications).toEqual([]);
  });
});
