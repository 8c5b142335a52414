import { Notification, ReactWidget } from "@jupyterlab/apputils";
import type { IDisposable } from "@lumino/disposable";
import type { Message } from "@lumino/messaging";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";
import { useMemo, useRef, useState } from "react";

import type { Booking, Span } from "../api/types";
import { useFocusKept } from "../components/action";
import { BookingList } from "../components/bookingList";
import { CalendarBar, Legend, PoolChoice } from "../components/calendarBar";
import { ErrorNote, Loaded, Skeleton } from "../components/parts";
import { ServerPartNote } from "../components/serverPart";
import type { Words } from "../components/words";
import { reasonInWords, useWords, WordsContext } from "../components/words";
import { gpuIcon } from "../icons";
import { Actions } from "../models/actions";
import type { Outcome } from "../models/bookingDesk";
import type { FormStart } from "../models/bookingForm";
import type { CalendarChoice } from "../models/calendar";
import { CalendarModel } from "../models/calendar";
import type { ComputeHub } from "../models/hub";
import type { Preferences } from "../models/preferences";
import { momentsOf } from "../models/zoned";
import { useResource, useSignal } from "./hooks";
import { useLazy } from "./lazy";
import { askToCancel } from "./leaseDialogs";

/** How the calendar opens the booking form. */
export type OpenForm = (form: { start?: FormStart; booking?: Booking }) => Promise<Outcome | null>;

export interface CalendarOptions {
  hub: ComputeHub;
  words: Words;
  preferences: Preferences;
  openForm: OpenForm;
  /** What was seen last time. */
  choice?: Partial<CalendarChoice>;
}

const MORNING = "09:00";
const WEEKDAYS = { sunday: 0, monday: 1, saturday: 6 } as const;

/** The calendar of the main area: week, day or list. It asks the server only while it is seen. */
export class CalendarWidget extends ReactWidget {
  constructor(private readonly options: CalendarOptions) {
    super();
    const { hub, words, preferences, choice } = options;
    this.addClass("ch-Calendar");
    this.title.icon = gpuIcon;
    this.title.label = words.trans.__("GPU Calendar");
    const firstWeekday = WEEKDAYS[preferences.get("weekStartsOn")];
    this.model = new CalendarModel(hub, {
      zone: words.formats.timeZone,
      firstWeekday,
      choice: { view: preferences.get("calendarView"), ...choice },
    });
    preferences.changed.connect(this.follow, this);
  }

  readonly model: CalendarModel;

  /** Emitted when another day, view or pool was chosen. */
  get chosen(): ISignal<CalendarModel, CalendarChoice> {
    return this.model.changed;
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this.options.preferences.changed.disconnect(this.follow, this);
      this.use?.dispose();
      this.model.dispose();
      Signal.clearData(this);
    }
    super.dispose();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.use ??= this.model.use();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      this.use ??= this.model.use();
    }
  }

  protected override onBeforeHide(message: Message): void {
    super.onBeforeHide(message);
    this.use?.dispose();
    this.use = null;
  }

  protected render(): JSX.Element {
    return (
      <WordsContext.Provider value={this.options.words}>
        <CalendarPage {...this.options} model={this.model} />
      </WordsContext.Provider>
    );
  }

  private follow(): void {
    this.model.firstWeekday = WEEKDAYS[this.options.preferences.get("weekStartsOn")];
  }

  private use: IDisposable | null = null;
}

function CalendarPage({ hub, model, openForm: open }: CalendarOptions & { model: CalendarModel }): JSX.Element {
  const page = useRef<HTMLDivElement>(null);
  // Where the form was opened from may be gone with the booking that it cancelled; the focus must not be.
  const openForm: OpenForm = async (form) => {
    const outcome = await open(form);
    await Promise.all([outcome && model.bookings.refresh(), outcome && model.free.refresh()]);
    requestAnimationFrame(() => {
      if (document.activeElement === document.body) {
        page.current?.querySelector("button")?.focus();
      }
    });
    return outcome;
  };
  useSignal(model.changed);
  useSignal(hub.offers.changed);
  useSignal(hub.serverPartChanged);
  const { choice } = model;
  const { serverPart } = hub;
  const offers = hub.offers.state;
  if (serverPart === "missing" || serverPart === "old") {
    const { error, value } = hub.me.state;
    const retry = () => void hub.me.refresh();
    return (
      <div ref={page} className="ch-Calendar-page">
        <ServerPartNote part={serverPart} error={error} version={value?.server_version} onRetry={retry} />
      </div>
    );
  }
  return (
    <div ref={page} className="ch-Calendar-page">
      <CalendarBar
        choice={choice}
        days={model.days}
        zone={model.zone}
        fileAddress={hub.client.bookingsFile()}
        onChoose={(chosen) => model.choose(chosen)}
        onTurn={(pages) => model.turn(pages)}
        onToday={() => model.today()}
        onBook={() => void openForm({ start: startOn(model, hub) })}
      />
      {choice.view === "list" ? (
        <ListPart hub={hub} model={model} openForm={openForm} />
      ) : (
        <>
          {offers.error && !offers.value && (
            <ErrorNote error={offers.error} onRetry={() => void hub.offers.refresh()} />
          )}
          <PoolChoice
            offers={offers.value ?? []}
            chosen={model.pools}
            onChoose={(poolIds) => model.choose({ poolIds })}
          >
            <Legend />
          </PoolChoice>
          <GridPart hub={hub} model={model} openForm={openForm} />
        </>
      )}
    </div>
  );
}

type PartProps = Pick<CalendarOptions, "hub" | "openForm"> & { model: CalendarModel };

/** A new booking is most likely meant for the pool and the day that are looked at. */
function startOn(model: CalendarModel, hub: ComputeHub): FormStart {
  const { view, day } = model.choice;
  if (view === "list") {
    return {};
  }
  const chosen = hub.offers.value?.find(({ pool_id }) => pool_id === model.pools[0]);
  const first = view === "day" ? day : model.days.first;
  const morning = momentsOf({ date: first, time: MORNING }, model.zone)[0] ?? 0;
  return {
    ...(chosen && { model: chosen.model }),
    ...(morning > hub.clock.now() && { starts_at: new Date(morning).toISOString() }),
  };
}

const loadGrid = () => import("../components/calendarGrid");

function GridPart({ hub, model, openForm }: PartProps): JSX.Element {
  const { trans } = useWords();
  const grid = useLazy(loadGrid);
  useSignal(model.bookings.changed);
  useSignal(model.free.changed);
  const [moving, setMoving] = useState<ReadonlyMap<string, Span>>(new Map());
  const offers = hub.offers.value;
  const poolIds = model.pools.join();
  const pools = useMemo(
    () => poolIds.split(",").map((id) => ({ id, name: offers?.find(({ pool_id }) => pool_id === id)?.model ?? "" })),
    [poolIds, offers],
  );
  const { bookings, free } = model;
  // What keeps the offers away keeps these as well, and is told above already.
  const error = offers ? (bookings.state.error ?? free.state.error) : null;
  const retry = () => {
    void bookings.refresh();
    void free.refresh();
  };
  const move = async (booking: Booking, span: Span) => {
    setMoving((map) => new Map(map).set(booking.id, span));
    const duration_seconds = (Date.parse(span.ends_at) - Date.parse(span.starts_at)) / 1000;
    await openForm({ booking, start: { starts_at: span.starts_at, duration_seconds } });
    setMoving((map) => new Map([...map].filter(([id]) => id !== booking.id)));
  };
  const draw = async (startsAt: number, endsAt: number | null, poolId: string | null) => {
    if (endsAt === null && startsAt < hub.clock.now() - SLOT_MS) {
      return; // A click on what is past.
    }
    const start: FormStart = { starts_at: new Date(Math.max(startsAt, soon(hub.clock.now()))).toISOString() };
    if (endsAt !== null) {
      start.duration_seconds = (endsAt - Date.parse(start.starts_at!)) / 1000;
    }
    start.model = offers?.find(({ pool_id }) => pool_id === (poolId ?? model.pools[0]))?.model;
    await openForm({ start });
  };
  return (
    <>
      {error && <ErrorNote error={error} onRetry={retry} />}
      {grid.error && <ErrorNote error={grid.error} onRetry={grid.retry} />}
      {grid.value ? (
        <grid.value.default
          view={model.choice.view === "day" ? "day" : "week"}
          day={model.choice.day}
          firstWeekday={model.firstWeekday}
          bookings={bookings.value?.items ?? NONE}
          moving={moving}
          free={free.value ?? NO_RUNS}
          pools={pools}
          now={() => hub.clock.now()}
          onDraw={(...drawn) => void draw(...drawn)}
          onMove={(booking, span) => void move(booking, span)}
          onOpen={(booking) => void openForm({ booking })}
        />
      ) : (
        !grid.error && <Skeleton lines={12} label={trans.__("Loading the calendar")} />
      )}
    </>
  );
}

/** A click names a slot; in the one that is passing it means now. */
const SLOT_MS = 30 * 60_000;
const NONE: Booking[] = [];
const NO_RUNS: never[] = [];
const soon = (now: number) => Math.ceil(now / 60_000) * 60_000;

function ListPart({ hub, model, openForm }: PartProps): JSX.Element {
  const words = useWords();
  const state = useResource(model.bookings);
  const [busy, setBusy] = useState<ReadonlySet<string>>(new Set());
  const actions = useMemo(() => new Actions(hub), [hub]);
  const { holder, kept } = useFocusKept<HTMLDivElement>();
  const isList = state.value?.view === "list";
  const cancel = async (booking: Booking) => {
    setBusy((ids) => new Set(ids).add(booking.id));
    try {
      await kept(askToCancel({ hub, actions, words }, booking).then(() => model.bookings.refresh()));
    } catch (reason) {
      Notification.error(words.trans.__("Not cancelled: %1", reasonInWords(reason, words)), { autoClose: false });
    } finally {
      setBusy((ids) => new Set([...ids].filter((id) => id !== booking.id)));
    }
  };
  return (
    <div ref={holder} tabIndex={-1} className="ch-Holder">
      <Loaded
        state={{ ...state, value: isList ? state.value : undefined }}
        onRetry={() => void model.bookings.refresh()}
      >
        {({ items, isCut }) => (
          <BookingList
            bookings={items}
            isCut={isCut}
            busy={busy}
            onOpen={(booking) => void openForm({ booking })}
            onCancel={(booking) => void cancel(booking)}
          />
        )}
      </Loaded>
    </div>
  );
}
