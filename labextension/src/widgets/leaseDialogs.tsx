/** What is asked before money, time or variables change. */
import { Dialog, showDialog } from "@jupyterlab/apputils";

import type { AnswerOf, Booking, Lease, Person } from "../api/types";
import { AllowanceForm, creditsTyped, microcreditsOf } from "../components/allowance";
import { LengthForm, SOME_LENGTH, lengthsOf, secondsOf } from "../components/leaseForms";
import type { Words } from "../components/words";
import type { Actions } from "../models/actions";
import type { ComputeHub } from "../models/hub";
import { askWithForm } from "./formDialog";
import { LogText } from "./logText";

export interface Asking {
  hub: ComputeHub;
  actions: Actions;
  words: Words;
}

/** By how much a lease shall last longer or shorter, then do it. */
export function askForLength({ hub, actions, words }: Asking, change: "extend" | "shorten", lease: Lease) {
  const { trans, formats } = words;
  const what = formats.devices(lease.model, lease.count);
  const isExtend = change === "extend";
  const offered = lengthsOf(lease, change, hub.clock.now());
  const choice = offered.includes(60) && isExtend ? "60" : String(offered[0] ?? "other");
  return askWithForm({
    title: isExtend ? trans.__("Keep %1 longer", what) : trans.__("Give %1 back earlier", what),
    accept: isExtend ? trans.__("Extend") : trans.__("Shorten"),
    words,
    initial: { ...SOME_LENGTH, choice },
    focus: "input:checked",
    render: (form) => (
      <LengthForm
        {...form}
        change={change}
        lease={lease}
        now={hub.clock.now()}
        availableMicrocredits={hub.me.value?.balance.available_microcredits}
      />
    ),
    isValid: (value) => secondsOf(value) !== null,
    send: async (value) => {
      const seconds = secondsOf(value) ?? 0;
      await (isExtend ? actions.extendLease(lease.id, seconds) : actions.shortenLease(lease.id, seconds));
    },
  });
}

export type Ending = "end" | "bring-back" | null;

/** Whether a lease shall end at once, or its notebook come back with its variables. */
export async function askHowToEnd({ trans, formats }: Words, lease: Lease): Promise<Ending> {
  const what = formats.devices(lease.model, lease.count);
  const isRunning = lease.state === "running";
  const buttons = [
    Dialog.cancelButton({ label: trans.__("Cancel") }),
    Dialog.warnButton({ label: isRunning ? trans.__("End and lose the variables") : trans.__("Stop it") }),
  ];
  if (isRunning) {
    buttons.push(Dialog.okButton({ label: trans.__("Bring the notebook back") }));
  }
  const { button } = await showDialog({
    title: isRunning ? trans.__("End %1 now?", what) : trans.__("Stop the start of %1?", what),
    body: isRunning
      ? trans.__(
          "The notebook's variables on the GPU are lost when it ends. Bring the notebook back to keep them. Either way you pay for the time until now, and the rest of the hold is released.",
        )
      : trans.__("Nothing was charged yet; what is on hold is released."),
    buttons,
    defaultButton: buttons.length - 1,
  });
  if (!button.accept) {
    return null;
  }
  return button.displayType === "warn" ? "end" : "bring-back";
}

/** The end of what a lease's kernel wrote outside its cells, followed while the lease is open. */
export async function showLog(words: Words, lease: Lease, read: () => Promise<AnswerOf<"getLog">>): Promise<void> {
  const { trans, formats } = words;
  const first = await read();
  await showDialog({
    title: trans.__("Log of %1", formats.devices(lease.model, lease.count)),
    body: <LogText words={words} first={first} {...(lease.state !== "closed" && { read })} />,
    buttons: [Dialog.okButton({ label: trans.__("Close") })],
  });
}

/** Whether to cancel a booking, with what it costs. Resolves once it is cancelled, or the person kept it. */
export async function askToCancel({ hub, actions, words }: Asking, booking: Booking): Promise<void> {
  const { trans, formats } = words;
  const hasBegun = Date.parse(booking.starts_at) <= hub.clock.now();
  const { button } = await showDialog({
    title: trans.__("Cancel the booking of %1?", formats.devices(booking.model, booking.count)),
    body: hasBegun
      ? trans.__("It has begun: you pay for the time until now, and the rest is released.")
      : trans.__("It costs nothing, and %1 come off the hold.", formats.credits(booking.amount_microcredits)),
    buttons: [
      Dialog.cancelButton({ label: trans.__("Keep it") }),
      Dialog.warnButton({ label: trans.__("Cancel the booking") }),
    ],
  });
  if (button.accept) {
    await actions.cancelBooking(booking.id);
  }
}

/** What notebooks may spend without asking. */
export function askForAllowance({ actions, words }: Asking, person: Person): Promise<boolean> {
  const { trans } = words;
  return askWithForm({
    title: trans.__("What notebooks may spend without asking"),
    accept: trans.__("Save"),
    words,
    initial: creditsTyped(person.allowance.per_day_microcredits),
    render: (form) => <AllowanceForm {...form} />,
    isValid: (typed) => microcreditsOf(typed) !== null,
    send: (typed) => actions.setAllowance(microcreditsOf(typed) ?? 0),
  });
}
