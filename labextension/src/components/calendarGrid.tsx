/** The days as columns, with your bookings in them and the free time behind. Loaded when a calendar is opened. */
import type { CalendarOptions, EventApi, EventContentArg, EventInput, EventMountArg } from "@fullcalendar/core";
import { Calendar } from "@fullcalendar/core";
import interactionPlugin from "@fullcalendar/interaction";
import timeGridPlugin from "@fullcalendar/timegrid";
import { useEffect, useRef } from "react";

import type { Booking, Span } from "../api/types";
import type { FreeRun } from "../models/calendar";
import { bookingInWords, stateInWords } from "./bookingWords";
import type { Words } from "./words";
import { useWords } from "./words";

const SNAP = "00:15:00";

export interface CalendarGridProps {
  view: "week" | "day";
  /** The first day that is seen. */
  day: string;
  firstWeekday: number;
  bookings: readonly Booking[];
  /** Where bookings stand that are just being moved, until it is decided. */
  moving: ReadonlyMap<string, Span>;
  free: readonly FreeRun[];
  /** The pools whose free time is shown, in the order of their lanes, with the words on each. */
  pools: readonly { id: string; name: string }[];
  now: () => number;
  /** Free time was drawn across; `poolId` is the lane under the pointer. A click has no end. */
  onDraw: (startsAt: number, endsAt: number | null, poolId: string | null) => void;
  onMove: (booking: Booking, span: Span) => void;
  onOpen: (booking: Booking) => void;
}

export default function CalendarGrid(props: CalendarGridProps): JSX.Element {
  const words = useWords();
  const host = useRef<HTMLDivElement>(null);
  const calendar = useRef<Calendar | null>(null);
  const drawn = useRef<EventInput[][]>([]);
  const latest = useRef(props);
  latest.current = props;
  const { view, day, firstWeekday, bookings, moving, free, pools } = props;

  useEffect(() => {
    const made = new Calendar(host.current!, optionsOf(latest, words));
    calendar.current = made;
    drawn.current = [];
    // The panel's width changes without the window's.
    const sizes = new ResizeObserver(() => made.updateSize());
    sizes.observe(host.current!);
    return () => {
      sizes.disconnect();
      made.destroy();
      calendar.current = null;
    };
  }, [words]);

  useEffect(() => {
    calendar.current?.batchRendering(() => {
      if (calendar.current?.getOption("firstDay") !== firstWeekday) {
        calendar.current?.setOption("firstDay", firstWeekday);
      }
      calendar.current?.changeView(VIEWS[view], day);
    });
  }, [words, view, day, firstWeekday]);

  // It is drawn at last, by the effect below, so that it opens with all that is known in one go.

  useEffect(() => {
    const now = latest.current.now();
    const events = [
      free.map((run) => freeEvent(run, pools, now, words)),
      bookings.map((booking) => bookingEvent(booking, moving.get(booking.id), now)),
    ];
    // Most looks at the server bring nothing new, and to draw hundreds of bookings again takes a while. What stays the
    // same array is not drawn again.
    const before = drawn.current;
    drawn.current = events.map((each, place) => {
      const known = before[place];
      return known && JSON.stringify(known) === JSON.stringify(each) ? known : each;
    });
    if (drawn.current.some((each, place) => each !== before[place])) {
      calendar.current?.batchRendering(() => calendar.current?.setOption("eventSources", drawn.current));
      if (!before.length) {
        calendar.current?.render();
      } else if (host.current) {
        nameBookings(host.current, bookings, words);
      }
    }
  }, [words, bookings, moving, free, pools]);

  return (
    <div className={`ch-CalendarGrid ch-mod-${view}`}>
      <div ref={host} />
    </div>
  );
}

const VIEWS = { week: "timeGridWeek", day: "timeGridDay" } as const;

function optionsOf(latest: { readonly current: CalendarGridProps }, words: Words): CalendarOptions {
  const { trans, formats } = words;
  const find = (event: EventApi) => latest.current.bookings.find(({ id }) => id === event.id);
  const { view, day, firstWeekday, now } = latest.current;
  return {
    plugins: [timeGridPlugin, interactionPlugin],
    initialView: VIEWS[view],
    initialDate: day,
    firstDay: firstWeekday,
    timeZone: "local",
    locale: formats.locale,
    direction: document.dir === "rtl" || document.body.dir === "rtl" ? "rtl" : "ltr",
    now: () => new Date(latest.current.now()),
    headerToolbar: false,
    allDaySlot: false,
    nowIndicator: true,
    height: "100%",
    expandRows: true,
    slotDuration: "00:30:00",
    snapDuration: SNAP,
    slotEventOverlap: false,
    scrollTime: scrollTimeOf(now()),
    scrollTimeReset: false,
    slotLabelFormat: { hour: "numeric", minute: "2-digit" },
    dayHeaderFormat: { weekday: "short", day: "numeric", month: "numeric" },
    eventTimeFormat: { hour: "numeric", minute: "2-digit" },
    eventInteractive: true,
    eventResizableFromStart: true,
    eventDragMinDistance: 4,
    longPressDelay: 400,
    selectable: true,
    selectMirror: true,
    // A click is no drawing: it takes the usual length.
    selectMinDistance: 5,
    selectAllow: ({ end }) => end.getTime() > latest.current.now(),
    eventAllow: ({ end }) => end.getTime() > latest.current.now(),
    select: ({ start, end, jsEvent }) => {
      latest.current.onDraw(start.getTime(), end.getTime(), laneAt(jsEvent));
    },
    dateClick: ({ date, jsEvent }) => latest.current.onDraw(date.getTime(), null, laneAt(jsEvent)),
    eventClick: ({ event }) => {
      const booking = find(event);
      if (booking) {
        latest.current.onOpen(booking);
      }
    },
    eventDrop: ({ event, revert }) => {
      const booking = find(event);
      // Where it stands until it is decided is said by `moving`; the grid's own idea of it is dropped.
      revert();
      const startsAt = event.start?.getTime();
      if (booking && startsAt !== undefined) {
        latest.current.onMove(booking, movedTo(booking, startsAt));
      }
    },
    eventResize: ({ event, revert, startDelta }) => {
      const booking = find(event);
      const { start, end } = event;
      revert();
      if (booking && start && end) {
        const isFromStart = startDelta.milliseconds !== 0 || startDelta.days !== 0;
        const span = isFromStart
          ? { starts_at: start.toISOString(), ends_at: booking.ends_at }
          : { starts_at: booking.starts_at, ends_at: end.toISOString() };
        latest.current.onMove(booking, span);
      }
    },
    eventContent: (shown) => (shown.event.display === "background" ? freeContent(shown) : bookingContent(shown, words)),
    eventDidMount: (mounted) => mount(mounted, find(mounted.event), words),
    // The library nests tables in the cells of a grid, where no row finds its grid. Days are groups by name instead.
    dayHeaderDidMount: ({ el }) => el.setAttribute("role", "presentation"),
    dayCellDidMount: ({ el }) => el.setAttribute("role", "group"),
    viewDidMount: ({ el }) => {
      for (const part of el.querySelectorAll("[role=grid], [role=row], [role=rowgroup]")) {
        part.setAttribute("role", "presentation");
      }
      for (const scroller of el.querySelectorAll<HTMLElement>(".fc-scroller-liquid-absolute")) {
        // What scrolls must scroll by keyboard as well.
        scroller.tabIndex = 0;
        scroller.setAttribute("role", "region");
        scroller.setAttribute("aria-label", trans.__("Hours of the day"));
      }
    },
  };
}

/** The same length at another time, in hours that pass: a night on which the clocks change makes none longer. */
function movedTo(booking: Booking, startsAt: number): Span {
  const length = Date.parse(booking.ends_at) - Date.parse(booking.starts_at);
  return { starts_at: new Date(startsAt).toISOString(), ends_at: new Date(startsAt + length).toISOString() };
}

function scrollTimeOf(now: number): string {
  return `${String(Math.max(0, Math.min(new Date(now).getHours() - 1, 15))).padStart(2, "0")}:00:00`;
}

function bookingEvent(booking: Booking, moved: Span | undefined, now: number): EventInput {
  const { id, state } = booking;
  const { starts_at, ends_at } = moved ?? booking;
  const isOver = state === "completed" || Date.parse(booking.ends_at) <= now;
  const hasBegun = Date.parse(booking.starts_at) <= now;
  return {
    id,
    start: starts_at,
    end: ends_at,
    startEditable: !isOver && !hasBegun && !moved,
    durationEditable: !isOver && !moved,
    classNames: ["ch-Booked", `ch-mod-${isOver ? "completed" : state}`, ...(moved ? ["ch-mod-moving"] : [])],
    extendedProps: { booking, isMoving: moved !== undefined },
  };
}

function freeEvent(run: FreeRun, pools: CalendarGridProps["pools"], now: number, { trans }: Words): EventInput {
  const lane = pools.findIndex(({ id }) => id === run.pool_id);
  const name = pools[lane]?.name ?? "";
  const said = run.free ? trans.__("%1 of %2 free", run.free, run.count) : trans.__("none free");
  return {
    // With the lane in its name, for an element that stays is not placed again.
    id: `free-${lane}-${pools.length}-${run.pool_id}-${run.starts_at}`,
    start: run.starts_at,
    end: run.ends_at,
    display: "background",
    classNames: [
      "ch-Free",
      run.free ? "ch-mod-free" : "ch-mod-taken",
      // Its words stand below the line that marks the present.
      ...(Date.parse(run.starts_at) <= now ? ["ch-mod-now"] : []),
    ],
    extendedProps: { lane, lanes: pools.length, poolId: run.pool_id, name: pools.length > 1 ? name : "", said },
  };
}

function freeContent({ event }: EventContentArg): { domNodes: Node[] } {
  const { name, said } = event.extendedProps as { name: string; said: string };
  const words = line("ch-Free-words", "");
  words.append(line("ch-Free-name", name), line("ch-Free-said", said));
  return { domNodes: [words] };
}

function bookingContent({ event, isMirror, timeText }: EventContentArg, words: Words): { domNodes: Node[] } {
  const booking = event.extendedProps.booking as Booking | undefined;
  const { trans, formats } = words;
  if (!booking) {
    return { domNodes: [line("ch-Booked-time", timeText), line("ch-Booked-what", trans.__("New booking"))] };
  }
  const state = event.extendedProps.isMoving ? trans.__("not decided yet") : stateInWords(booking, words);
  const lines = [
    line("ch-Booked-what", formats.devices(booking.model, booking.count)),
    line("ch-Booked-time", isMirror ? timeText : timesOf(event, words)),
    line("ch-Booked-state", state),
    line("ch-Booked-notebook", booking.notebook_path ?? ""),
  ];
  return { domNodes: lines.filter(({ textContent }) => textContent) };
}

function timesOf({ start, end }: EventApi, { trans, formats }: Words): string {
  return start && end ? trans.__("%1 to %2", formats.time(start), formats.time(end)) : "";
}

function line(className: string, text: string): HTMLElement {
  const node = document.createElement("span");
  node.className = className;
  node.textContent = text;
  return node;
}

function mount({ event, el, isMirror }: EventMountArg, booking: Booking | undefined, words: Words): void {
  const { lane, lanes, poolId } = event.extendedProps as { lane?: number; lanes?: number; poolId?: string };
  if (lane !== undefined && lanes) {
    // Each pool has its own lane in the day.
    el.dataset.pool = poolId;
    el.style.insetInlineStart = `${(100 * lane) / lanes}%`;
    el.style.inlineSize = `${100 / lanes}%`;
  } else if (booking && !isMirror) {
    el.dataset.booking = booking.id;
    el.setAttribute("role", "button");
    name(el, booking, words);
  }
}

/** Elements outlive what they show: a booking that was changed keeps its element, and would keep its old name. */
function nameBookings(host: HTMLElement, bookings: readonly Booking[], words: Words): void {
  for (const el of host.querySelectorAll<HTMLElement>("[data-booking]")) {
    const booking = bookings.find(({ id }) => id === el.dataset.booking);
    if (booking) {
      name(el, booking, words);
    }
  }
}

function name(el: HTMLElement, booking: Booking, words: Words): void {
  const said = bookingInWords(booking, words);
  el.setAttribute("aria-label", said);
  el.title = said;
}

/** The pool whose lane lies under the pointer. */
function laneAt(event: Event | null): string | null {
  const { clientX, clientY } = (event ?? {}) as Partial<MouseEvent>;
  if (clientX === undefined || clientY === undefined) {
    return null;
  }
  const under = document.elementsFromPoint(clientX, clientY) as HTMLElement[];
  return under.find(({ dataset }) => dataset?.pool)?.dataset.pool ?? null;
}
