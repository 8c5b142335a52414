/** The sidebar's foldable parts, each with the data that it shows. */
import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { ReactNode } from "react";
import { useCallback, useEffect, useState, useSyncExternalStore } from "react";

import type { ApiError } from "../api/errors";
import type { Booking, Lease } from "../api/types";
import { ApprovalList } from "../components/approvals";
import { BookingList } from "../components/bookings";
import { HistoryList, HistoryTools } from "../components/history";
import { LeaseCard } from "../components/leaseCard";
import type { OfferFilter } from "../components/offers";
import { OfferList } from "../components/offers";
import { Button, EmptyNote, Loaded, Section } from "../components/parts";
import { useWords } from "../components/words";
import { CommandIDs } from "../commands";
import type { Actions } from "../models/actions";
import type { Grouping, History } from "../models/history";
import type { ComputeHub } from "../models/hub";
import { costNow, secondsLeft, urgencyOf } from "../models/meter";
import type { Remembered } from "../models/remembered";
import { wallTimeOf } from "../models/zoned";
import { ChartsFold } from "./chartsFold";
import { useNow, useResource, useSignal } from "./hooks";

type Commands = JupyterFrontEnd["commands"];

export type PartName = "approvals" | "balance" | "leases" | "offers" | "bookings" | "history";

/** How a person left the sidebar. */
export interface SidebarState extends OfferFilter {
  folded: Partial<Record<PartName | "charts", boolean>>;
  grouping: Grouping;
  isTourOffered: boolean;
}

export const SIDEBAR_STATE: SidebarState = {
  folded: { history: true, charts: true },
  grouping: "lease",
  isTourOffered: true,
  order: "price",
  text: "",
};

/** All that the sidebar's parts stand on. */
export interface SidebarParts {
  hub: ComputeHub;
  actions: Actions;
  history: History;
  remembered: Remembered<SidebarState>;
  commands: Commands;
  askToCancel: (booking: Booking) => Promise<void>;
}

type PartProps = { parts: SidebarParts };

/** A foldable part over one thing of the server. An unreachable server is told of once, above all parts. */
export function Part<Value>(props: {
  parts: SidebarParts;
  name: PartName;
  title: string;
  state: { value: Value | undefined; error: ApiError | null };
  onRetry: () => void;
  lines?: number;
  children: (value: Value) => ReactNode;
}): JSX.Element {
  const { children, lines, name, onRetry, parts, state, title } = props;
  const { remembered } = parts;
  const { folded } = remembered.state;
  const { trans } = useWords();
  const isTold = parts.hub.me.state.error !== null && state.error !== null;
  return (
    <Section
      title={title}
      isOpen={!folded[name]}
      onToggle={(isOpen) => remembered.set({ folded: { ...folded, [name]: !isOpen } })}
    >
      {isTold && state.value === undefined ? (
        <EmptyNote>{trans.__("Not known before the server answers again.")}</EmptyNote>
      ) : (
        <Loaded state={isTold ? { ...state, error: null } : state} onRetry={onRetry} lines={lines}>
          {children}
        </Loaded>
      )}
    </Section>
  );
}

/** Shown only where a notebook asks for something. */
export function ApprovalsPart({ parts }: PartProps): JSX.Element | null {
  const { trans } = useWords();
  const { actions, hub } = parts;
  const approvals = useResource(hub.approvals);
  if (!approvals.value?.length) {
    return null;
  }
  return (
    <Part
      parts={parts}
      name="approvals"
      title={trans.__("Asked of you")}
      state={approvals}
      onRetry={() => void hub.approvals.refresh()}
    >
      {(items) => (
        <ApprovalList
          approvals={items}
          onApprove={(approval) => actions.approve(approval)}
          onDecline={(approval) => actions.decline(approval)}
        />
      )}
    </Part>
  );
}

export function LeasesPart({ parts }: PartProps): JSX.Element {
  const { trans } = useWords();
  const { commands, hub } = parts;
  const leases = useResource(hub.leases);
  const canMove = useEnabled(commands, CommandIDs.moveNotebook);
  return (
    <Part
      parts={parts}
      name="leases"
      title={trans.__("Running GPUs")}
      state={leases}
      onRetry={() => void hub.leases.refresh()}
      lines={2}
    >
      {(items) =>
        items.length ? (
          <RunningLeases leases={items} parts={parts} />
        ) : (
          <EmptyNote>
            {trans.__("No GPU runs for you.")}{" "}
            {canMove && (
              <Button
                label={trans.__("Move this notebook to a GPU…")}
                kind="accept"
                onClick={() => void commands.execute(CommandIDs.moveNotebook)}
              />
            )}
          </EmptyNote>
        )
      }
    </Part>
  );
}

function RunningLeases({ leases, parts }: PartProps & { leases: readonly Lease[] }): JSX.Element {
  const { commands, hub, remembered } = parts;
  const { folded } = remembered.state;
  const now = useNow(hub.clock);
  const of = (id: string) => (lease: Lease) => void commands.execute(id, { lease_id: lease.id });
  return (
    <>
      {leases.map((lease) => (
        <LeaseCard
          key={lease.id}
          lease={lease}
          cost={costNow(lease, now)}
          secondsLeft={secondsLeft(lease, now)}
          isSoon={urgencyOf(lease, now) !== "calm"}
          onOpenNotebook={(path) => void commands.execute("docmanager:open", { path })}
          onExtend={of(CommandIDs.extendLease)}
          onShorten={of(CommandIDs.shortenLease)}
          onEnd={of(CommandIDs.endLease)}
          onLog={of(CommandIDs.showLog)}
          onTerminal={of(CommandIDs.openTerminal)}
        >
          {lease.started_at && (
            <ChartsFold
              hub={hub}
              lease={lease}
              isOpen={!folded.charts}
              onToggle={(isOpen) => remembered.set({ folded: { ...folded, charts: !isOpen } })}
            />
          )}
        </LeaseCard>
      ))}
    </>
  );
}

export function OffersPart({ parts }: PartProps): JSX.Element {
  const { trans } = useWords();
  const { commands, hub, remembered } = parts;
  const canMove = useEnabled(commands, CommandIDs.moveNotebook);
  return (
    <Part
      parts={parts}
      name="offers"
      title={trans.__("GPUs to use or book")}
      state={useResource(hub.offers)}
      onRetry={() => void hub.offers.refresh()}
      lines={6}
    >
      {(offers) => (
        <OfferList
          offers={offers}
          filter={remembered.state}
          onFilter={(filter) => remembered.set(filter)}
          onBook={({ model }) => void commands.execute(CommandIDs.book, { model })}
          onMove={canMove ? ({ model }) => void commands.execute(CommandIDs.moveNotebook, { model }) : undefined}
        />
      )}
    </Part>
  );
}

export function BookingsPart({ parts }: PartProps): JSX.Element {
  const { formats, trans } = useWords();
  const { askToCancel, commands, hub } = parts;
  const bookings = useResource(hub.bookings);
  const leases = useResource(hub.leases);
  const canMove = useEnabled(commands, CommandIDs.moveNotebook);
  const now = useMinute(hub);
  // What runs already is shown above, with the ways to end it.
  const running = new Set((leases.value ?? []).map(({ booking_id }) => booking_id));
  return (
    <Part
      parts={parts}
      name="bookings"
      title={trans.__("Next bookings")}
      state={bookings}
      onRetry={() => void hub.bookings.refresh()}
    >
      {(items) => (
        <BookingList
          bookings={items.filter(({ id }) => !running.has(id))}
          now={now}
          onBook={() => void commands.execute(CommandIDs.book)}
          onCalendar={() => void commands.execute(CommandIDs.openCalendar)}
          onCancel={askToCancel}
          onMove={
            canMove ? ({ count, model }) => void commands.execute(CommandIDs.moveNotebook, { count, model }) : undefined
          }
          onChange={({ id }) => void commands.execute(CommandIDs.book, { booking_id: id })}
          onShow={({ starts_at }) => {
            const { date } = wallTimeOf(Date.parse(starts_at), formats.timeZone);
            void commands.execute(CommandIDs.openCalendar, { day: date });
          }}
        />
      )}
    </Part>
  );
}

export function HistoryPart({ parts }: PartProps): JSX.Element {
  const { trans } = useWords();
  const { history, hub, remembered } = parts;
  const isOpen = !remembered.state.folded.history;
  useSignal(history.changed);
  useEffect(() => {
    history.group(remembered.state.grouping);
    history.watch(isOpen);
    return () => history.watch(false);
  }, [history, isOpen, remembered.state.grouping]);
  const { state } = history;
  return (
    <Part
      parts={parts}
      name="history"
      title={trans.__("History")}
      state={state}
      onRetry={() => void history.retry()}
      lines={8}
    >
      {(lines) => (
        <>
          <HistoryTools
            grouping={remembered.state.grouping}
            onGrouping={(grouping) => remembered.set({ grouping })}
            file={hub.client.historyFile(remembered.state.grouping)}
          />
          <HistoryList
            {...state}
            lines={lines}
            onNewer={() => void history.newer()}
            onOlder={() => void history.older()}
          />
        </>
      )}
    </Part>
  );
}

/** Whether a command would do something now. Commands change with every click; only another answer renders again. */
function useEnabled(commands: Commands, id: string): boolean {
  const subscribe = useCallback(
    (again: () => void) => {
      commands.commandChanged.connect(again);
      return () => void commands.commandChanged.disconnect(again);
    },
    [commands],
  );
  return useSyncExternalStore(subscribe, () => commands.hasCommand(id) && commands.isEnabled(id));
}

/** The server's time for what changes rarely: rendered again when its minute does. */
function useMinute({ clock }: ComputeHub): number {
  const [now, setNow] = useState(() => clock.now());
  useEffect(() => {
    const timer = window.setInterval(() => !document.hidden && setNow(clock.now()), 60_000);
    return () => window.clearInterval(timer);
  }, [clock]);
  return now;
}
