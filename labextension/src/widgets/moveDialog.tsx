import { useEffect, useRef, useState } from "react";

import type { KernelPlace, Quote } from "../api/types";
import { MoveResult, lacksOf } from "../components/moveResult";
import { MoveProgress } from "../components/moveProgress";
import { Button, ErrorNote, Skeleton } from "../components/parts";
import { PlaceCard } from "../components/placeCard";
import { devicesOf } from "../components/moveWords";
import type { Words } from "../components/words";
import { WordsContext, useWords } from "../components/words";
import type { ComputeHub } from "../models/hub";
import type { MoveDraft } from "../models/moveDraft";
import { insistOn, newDraft } from "../models/moveDraft";
import type { Move, Moves } from "../models/moves";
import type { NotebookPlace } from "../models/notebookPlace";
import { PagesDialog } from "./pagesDialog";
import { useNow, useSignal } from "./hooks";
import { MoveFormPage } from "./moveFormPage";

export interface MoveDialogOptions {
  hub: ComputeHub;
  moves: Moves;
  notebook: NotebookPlace;
  words: Words;
  /** What the notebook is called. */
  name: string;
  /** Where to; where the notebook is and what one can do about it when left out. */
  target?: "gpu" | "cpu" | undefined;
  /** What the form begins with. */
  defaults?: Partial<MoveDraft>;
  onBook: (quote: Quote, startsAt: string) => void;
  /** Ask for how much longer. */
  onExtend: (leaseId: string) => void;
  /** Show what a start that failed wrote. */
  onLog: (leaseId: string) => void;
}

/** Ask where to move a notebook and follow the move; the promise ends with the dialog, the move goes on without it. */
export async function openMoveDialog(options: MoveDialogOptions): Promise<void> {
  const { moves, notebook, words, name } = options;
  const kernelId = notebook.kernelId;
  const attended = kernelId ? moves.attend(kernelId) : null;
  const close = () => dialog.close();
  const content = (
    <WordsContext.Provider value={words}>
      <MoveDialogContent {...options} onClose={close} />
    </WordsContext.Provider>
  );
  const dialog = new PagesDialog(words.trans.__("Where “%1” runs", name), content);
  try {
    await dialog.launch();
  } finally {
    if (kernelId && moves.of(kernelId)?.isEnded) {
      moves.forget(kernelId);
    }
    attended?.dispose();
    dialog.dispose();
  }
}

type DialogProps = MoveDialogOptions & { onClose: () => void };

/** One of the pages, by where the notebook is and whether it moves. */
export function MoveDialogContent(props: DialogProps): JSX.Element {
  const { trans } = useWords();
  const { hub, moves, notebook } = props;
  useSignal(notebook.changed);
  useSignal(moves.changed);
  useEffect(() => {
    const watch = notebook.watch();
    return () => watch.dispose();
  }, [notebook]);
  const [target, setTarget] = useState(props.target);
  const [draft, setDraft] = useState(() => ({ ...newDraft(target ?? "gpu"), ...props.defaults }));
  const { kernelId, value: place } = notebook;
  const move = kernelId ? moves.of(kernelId) : null;
  const toward = target ?? (place?.place === "gpu" ? null : "gpu");

  // A move of mine that began elsewhere, such as in a cell, is followed as if it had begun here.
  const begun = place?.switch;
  const isMine = begun && begun.requested_by === hub.me.value?.username;
  useEffect(() => {
    if (begun && isMine) {
      moves.follow(begun);
    }
  }, [begun, isMine, moves]);

  const go = (to: "gpu" | "cpu") => {
    setTarget(to);
    setDraft((before) => ({ ...before, target: to, acceptsLoss: false }));
  };
  if (!kernelId) {
    return (
      <Page title={trans.__("No kernel")} {...props}>
        <p>{trans.__("This notebook has no kernel. Start one, then it can move.")}</p>
      </Page>
    );
  }
  if (move && !["asking", "refused"].includes(move.phase)) {
    return <MovePage {...props} move={move} onAgain={() => (moves.forget(kernelId), go(move.wish.target))} />;
  }
  if (begun && !move && !isMine) {
    return (
      <Page title={trans.__("%1 moves this notebook", begun.requested_by)} {...props}>
        <MoveProgress value={begun} keepsNothing={false} />
      </Page>
    );
  }
  if (!place && !notebook.state?.error) {
    return (
      <Page title={trans.__("Where the notebook runs")} {...props}>
        <Skeleton lines={4} label={trans.__("Loading")} />
      </Page>
    );
  }
  if (!place && notebook.state?.error) {
    return (
      <Page title={trans.__("Where the notebook runs")} {...props}>
        <ErrorNote error={notebook.state.error} onRetry={() => notebook.refresh()} />
      </Page>
    );
  }
  if (place && (toward === null || (toward === "gpu" && place.place === "gpu"))) {
    return <PlacePage {...props} place={place} onReturn={() => go("cpu")} />;
  }
  const set = (change: Partial<MoveDraft>) => setDraft((before) => ({ ...before, ...change }));
  const form = { ...draft, target: toward ?? "gpu" };
  return (
    <Page title={form.target === "gpu" ? trans.__("Move to a GPU") : trans.__("Back to the CPU")} {...props} isForm>
      <MoveFormPage {...props} kernelId={kernelId} draft={form} onChange={set} move={move} place={place} />
    </Page>
  );
}

/** A page's title takes the focus when the page comes, so that it is read out and Tab goes on from there. */
function Page(props: { title: string; onClose: () => void; isForm?: boolean; children: React.ReactNode }): JSX.Element {
  const { trans } = useWords();
  const { title, onClose, isForm, children } = props;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), [title]);
  return (
    <div className="ch-MoveDialog">
      <h2 ref={heading} tabIndex={-1} data-first>
        {title}
      </h2>
      {children}
      {!isForm && (
        <div className="ch-MoveButtons">
          <Button label={trans.__("Close")} onClick={onClose} />
        </div>
      )}
    </div>
  );
}

function PlacePage(props: DialogProps & { place: KernelPlace; onReturn: () => void }): JSX.Element {
  const { trans } = useWords();
  const { hub, place, onReturn, onExtend, onClose } = props;
  const now = useNow(hub.clock);
  const { lease, may } = place;
  const why = may.why ?? undefined;
  return (
    <Page title={trans.__("This notebook is on a GPU")} {...props} isForm>
      <PlaceCard place={place} now={now} />
      <div className="ch-MoveButtons">
        <Button label={trans.__("Close")} onClick={onClose} />
        {lease && (
          <Button
            label={trans.__("Extend…")}
            disabled={!may.extend}
            {...(why && { why })}
            onClick={() => {
              onClose();
              onExtend(lease.id);
            }}
          />
        )}
        <Button
          kind="accept"
          label={trans.__("Back to the CPU…")}
          disabled={!may.move}
          {...(why && { why })}
          onClick={onReturn}
        />
      </div>
    </Page>
  );
}

function MovePage(props: DialogProps & { move: Move; onAgain: () => void }): JSX.Element {
  const words = useWords();
  const { trans } = words;
  const { moves, move, notebook, onAgain, onClose, onLog } = props;
  const { phase, value, wish } = move;
  const lease = notebook.value?.lease;
  const toGpu = wish.target === "gpu";
  if (phase === "moving") {
    const tooLate = value?.state === "swapping";
    return (
      <Page title={toGpu ? trans.__("Moving to a GPU") : trans.__("Moving back to the CPU")} {...props} isForm>
        <MoveProgress value={value} keepsNothing={wish.keep === "none"} />
        {move.error && <ErrorNote error={move.error} />}
        <div className="ch-MoveButtons">
          <Button label={trans.__("Close, and go on moving")} onClick={onClose} />
          <Button
            kind="warn"
            label={move.isCancelling ? trans.__("Cancelling…") : trans.__("Cancel the move")}
            disabled={tooLate || move.isCancelling}
            why={trans.__("It is changing over already.")}
            onClick={() => void move.cancel()}
          />
        </div>
      </Page>
    );
  }
  const titles = {
    done: toGpu ? trans.__("Moved") : trans.__("Back on the CPU"),
    cancelled: trans.__("Cancelled"),
    lost: trans.__("Lost sight of the move"),
  } as Record<string, string>;
  const leaseId = value?.lease_id;
  const lacks = lacksOf(value);
  // Of a move that began elsewhere the rest of the wish is not known here: it is chosen again, with its price.
  const canInsist = move.isAskedHere && phase === "failed" && (lacks.lost.length > 0 || lacks.problems.length > 0);
  return (
    <Page title={titles[phase] ?? trans.__("Not moved")} {...props} isForm>
      <MoveResult
        {...move}
        phase={phase}
        value={value}
        error={move.error}
        devices={lease ? devicesOf(words, lease) : null}
      />
      <div className="ch-MoveButtons">
        {phase !== "done" && <Button label={trans.__("Choose again")} onClick={onAgain} />}
        {phase === "failed" && toGpu && leaseId && (
          <Button
            label={trans.__("Log of the start")}
            onClick={() => {
              onClose();
              onLog(leaseId);
            }}
          />
        )}
        {canInsist && (
          <Button
            kind="warn"
            label={trans.__("Move all the same")}
            onClick={() => void moves.begin(move.kernelId, insistOn(wish, lacks))}
          />
        )}
        <Button kind="accept" label={trans.__("Close")} onClick={onClose} />
      </div>
    </Page>
  );
}
