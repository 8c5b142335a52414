import { Dialog, Notification, ReactWidget } from "@jupyterlab/apputils";
import { useEffect } from "react";

import type { ApiError } from "../api/errors";
import type { Booking } from "../api/types";
import { BookingFields, SHOWN_AT_FIELDS } from "../components/bookingForm";
import { Button, ErrorNote, Skeleton } from "../components/parts";
import { QuoteCard } from "../components/quoteCard";
import type { Words } from "../components/words";
import { reasonInWords, useWords, WordsContext } from "../components/words";
import type { Outcome } from "../models/bookingDesk";
import { BookingDesk } from "../models/bookingDesk";
import type { FormStart } from "../models/bookingForm";
import { startFields } from "../models/bookingForm";
import type { ComputeHub } from "../models/hub";
import type { Preferences } from "../models/preferences";
import { useResource, useSignal } from "./hooks";
import { PlainRenderer } from "./plainRenderer";

export interface BookingDialogOptions {
  hub: ComputeHub;
  words: Words;
  preferences: Preferences;
  /** What the form is filled with at first. */
  start?: FormStart;
  /** The booking to move or cancel; without it a new one is made. */
  booking?: Booking | undefined;
  /** Open notebooks, to choose from. */
  notebooks?: readonly string[];
}

/** Open the booking form, and wait until it is closed. Null when nothing was done. */
export async function openBookingDialog(options: BookingDialogOptions): Promise<Outcome | null> {
  const body = new BookingBody(options);
  try {
    await new BookingDialog(body, options).launch();
    return body.desk?.state.outcome ?? null;
  } finally {
    body.dispose();
  }
}

/** The dialog's content. The desk comes when the server has said what it lets anybody ask for. */
class BookingBody extends ReactWidget {
  constructor(private readonly options: BookingDialogOptions) {
    super();
    this.addClass("ch-BookingDialog-body");
    options.hub.me.changed.connect(this.begin, this);
    this.begin();
  }

  desk: BookingDesk | null = null;
  onDesk: (desk: BookingDesk) => void = () => undefined;

  override dispose(): void {
    if (!this.isDisposed) {
      this.options.hub.me.changed.disconnect(this.begin, this);
      // A desk that still waits for an answer ends with it.
      if (!this.desk?.state.isSending) {
        this.desk?.dispose();
      }
    }
    super.dispose();
  }

  protected render(): JSX.Element {
    return (
      <WordsContext.Provider value={this.options.words}>
        <BookingPage {...this.options} desk={this.desk} onShown={this.focusFirst} />
      </WordsContext.Provider>
    );
  }

  private begin(): void {
    const { hub, words, preferences, start, booking } = this.options;
    const limits = hub.me.value?.limits;
    if (this.desk || !limits) {
      return;
    }
    const usual = { model: preferences.get("model") || undefined, ...this.length() };
    const zone = words.formats.timeZone;
    this.desk = new BookingDesk(hub, {
      zone,
      limits,
      booking,
      start: booking ? (start ?? {}) : { ...usual, ...start },
    });
    this.onDesk(this.desk);
    this.update();
  }

  /** The dialog looked for a field to begin with before there was one. After a drag the button is what one wants. */
  private readonly focusFirst = (): void => {
    const { booking, start } = this.options;
    if (!(booking && start)) {
      this.node.querySelector<HTMLElement>("select:enabled, input:enabled")?.focus();
    }
  };

  private length(): FormStart {
    const minutes = this.options.preferences.get("durationMinutes");
    return minutes ? { duration_seconds: minutes * 60 } : {};
  }
}

interface PageProps extends BookingDialogOptions {
  /** Called once there are fields. */
  onShown: () => void;
}

function BookingPage({ hub, desk, ...rest }: PageProps & { desk: BookingDesk | null }): JSX.Element {
  const me = useResource(hub.me);
  const { trans } = useWords();
  if (desk) {
    return <BookingDeskView hub={hub} desk={desk} {...rest} />;
  }
  return me.error ? (
    <ErrorNote error={me.error} onRetry={() => void hub.me.refresh()} />
  ) : (
    <Skeleton lines={9} label={trans.__("Loading")} />
  );
}

function BookingDeskView(props: PageProps & { desk: BookingDesk }): JSX.Element {
  const { hub, desk, booking, notebooks = [], onShown } = props;
  const { trans } = useWords();
  useEffect(onShown, [onShown]);
  useSignal(desk.changed);
  const me = useResource(hub.me);
  const offers = useResource(hub.offers);
  const { form, problems, quote, quoteError, isQuoting, isSending, refusal } = desk.state;
  const first = offers.value?.[0]?.model;
  if (!form.model && first) {
    // Not while rendering: the desk tells everybody.
    queueMicrotask(() => desk.set({ model: cheapest(offers.value ?? []) }));
  }
  const isAtField = (field: string | null | undefined) => SHOWN_AT_FIELDS.includes(field ?? "");
  const error = refusal ?? quoteError;
  return (
    <form className="ch-BookingDialog-form" aria-busy={isSending} onSubmit={(event) => event.preventDefault()}>
      {offers.error && !offers.value && <ErrorNote error={offers.error} onRetry={() => void hub.offers.refresh()} />}
      <BookingFields
        form={form}
        problems={problems.filter(({ field }) => field !== "model" || offers.value)}
        error={error && isAtField(error.field) ? error : null}
        offers={offers.value ?? []}
        limits={desk.limits}
        zone={desk.zone}
        notebooks={notebooks}
        mode={booking ? (desk.hasBegun ? "begun" : "move") : "new"}
        onChange={(typed) => desk.set(typed)}
      />
      <QuoteCard
        quote={quote}
        error={quoteError && !isAtField(quoteError.field) ? quoteError : null}
        isQuoting={isQuoting}
        isIncomplete={problems.length > 0}
        skipTaken={form.skipTaken}
        availableMicrocredits={me.value?.balance.available_microcredits ?? null}
        onTakeTime={(startsAt) => desk.set(startFields(Date.parse(startsAt), desk.zone))}
        onTakeModel={(model) => desk.set({ model })}
        onRetry={() => void desk.askPrice()}
      />
      {refusal && !isAtField(refusal.field) && <ErrorNote error={refusal} />}
      <p className="ch-BookingDialog-sending" role="status">
        {isSending && trans.__("One moment…")}
        {refusal?.isTransient && trans.__("Whether it was done is not known. Try again: nothing is done twice.")}
      </p>
      {booking && <CancelButtons desk={desk} booking={booking} isBusy={isSending} />}
    </form>
  );
}

function CancelButtons(props: { desk: BookingDesk; booking: Booking; isBusy: boolean }): JSX.Element {
  const { desk, booking, isBusy } = props;
  const { trans } = useWords();
  return (
    <div className="ch-BookingDialog-cancel">
      <Button
        label={desk.hasBegun ? trans.__("Give the time back") : trans.__("Cancel this booking")}
        kind="warn"
        disabled={isBusy}
        onClick={() => void desk.cancel()}
      />
      {booking.series_id && (
        <Button
          label={trans.__("Cancel all of the series to come")}
          kind="warn"
          disabled={isBusy}
          onClick={() => void desk.cancel({ all: true })}
        />
      )}
      {desk.hasBegun && <p>{trans.__("You pay for the time that was held for you so far.")}</p>}
    </div>
  );
}

class BookingDialog extends Dialog<unknown> {
  constructor(
    private readonly form: BookingBody,
    private readonly options: BookingDialogOptions,
  ) {
    const { trans } = options.words;
    super({
      title: options.booking ? trans.__("Your booking") : trans.__("Book a GPU"),
      body: form,
      buttons: [
        Dialog.cancelButton({ label: trans.__("Close") }),
        Dialog.okButton({ label: options.booking ? trans.__("Move") : trans.__("Book") }),
      ],
      focusNodeSelector: "select:enabled, input:enabled",
      renderer: new PlainRenderer(),
    });
    this.addClass("ch-BookingDialog");
    form.onDesk = (desk) => this.follow(desk);
    if (form.desk) {
      this.follow(form.desk);
    }
    this.showButton();
  }

  /** Every way to press a button ends here. The one that sends waits for the answer; a refused form stays as it is. */
  override resolve(index: number = ACCEPT): void {
    if (index !== ACCEPT) {
      super.resolve(index);
    } else {
      void this.form.desk?.send();
    }
  }

  private follow(desk: BookingDesk): void {
    const { words } = this.options;
    desk.changed.connect(() => {
      const { outcome, refusal, isSending } = desk.state;
      if (outcome && !this.isTold) {
        this.isTold = true;
        Notification.success(outcomeInWords(outcome, words), { autoClose: 6000 });
        super.resolve(ACCEPT);
      } else if (this.isDisposed) {
        // The person closed the form while it was sent, and would not hear of it otherwise.
        if (refusal && !isSending) {
          Notification.error(this.refusalInWords(refusal), { autoClose: false });
        }
      } else {
        this.showButton();
      }
      if (this.isDisposed && !isSending) {
        desk.dispose();
      }
    });
    this.showButton();
  }

  private refusalInWords(refusal: ApiError): string {
    const { words, booking } = this.options;
    const { trans } = words;
    if (refusal.isTransient) {
      return trans.__("No answer came: look at your bookings to see whether it was done.");
    }
    const reason = reasonInWords(refusal, words);
    return booking ? trans.__("Your booking is as it was: %1", reason) : trans.__("Not booked: %1", reason);
  }

  private showButton(): void {
    const button = this.node.querySelector<HTMLButtonElement>(".jp-Dialog-footer button.jp-mod-accept");
    const desk = this.form.desk;
    button?.setAttribute("aria-disabled", String(!desk?.canSend));
    button?.setAttribute("aria-busy", String(desk?.state.isSending ?? false));
    button?.classList.toggle("ch-mod-busy", desk?.state.isSending ?? false);
  }

  private isTold = false;
}

const ACCEPT = 1;

function cheapest(offers: readonly { model: string; rate_microcredits_per_hour: number; free_now: number }[]): string {
  const free = offers.filter(({ free_now }) => free_now > 0);
  const [first] = [...(free.length ? free : offers)].sort(
    (one, other) => one.rate_microcredits_per_hour - other.rate_microcredits_per_hour,
  );
  return first?.model ?? "";
}

/** What was done, said in the notification that stays after the dialog. */
export function outcomeInWords({ kind, bookings, skipped, notes }: Outcome, { trans, formats }: Words): string {
  const [first] = bookings;
  const said = (booking: Booking) => [
    formats.devices(booking.model, booking.count),
    formats.span(booking.starts_at, booking.ends_at),
    formats.credits(booking.amount_microcredits),
  ];
  switch (kind) {
    case "booked":
      return trans.__("Booked: %1, %2, at most %3.", ...said(first!));
    case "moved":
      return trans.__("Changed to: %1, %2, at most %3.", ...said(first!));
    case "cancelled":
      return trans.__("Cancelled: %1, %2.", ...said(first!).slice(0, 2));
    case "series_cancelled":
      return trans.__("Those of the series that had not begun are cancelled.");
    case "series_booked":
      return [
        trans._n("Booked once.", "Booked %1 times.", bookings.length, bookings.length),
        skipped ? trans._n("One was taken by others.", "%1 were taken by others.", skipped, skipped) : "",
        ...notes,
      ]
        .filter(Boolean)
        .join(" ");
  }
}
