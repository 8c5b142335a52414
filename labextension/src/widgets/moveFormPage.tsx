import { useEffect, useState } from "react";

import type { KernelPlace, Quote } from "../api/types";
import { MoveForm } from "../components/moveForm";
import { MovePreview, fieldOf, lostIn } from "../components/movePreview";
import { Button, ErrorNote } from "../components/parts";
import { useWords } from "../components/words";
import type { ComputeHub } from "../models/hub";
import type { MoveDraft } from "../models/moveDraft";
import { modelsOf, wishOf } from "../models/moveDraft";
import type { Move, Moves } from "../models/moves";
import { Previewer } from "../models/previewer";
import { useResource, useSignal } from "./hooks";

export interface MoveFormPageProps {
  hub: ComputeHub;
  moves: Moves;
  kernelId: string;
  place: KernelPlace | null;
  draft: MoveDraft;
  onChange: (change: Partial<MoveDraft>) => void;
  /** The move that was asked for and not begun, or refused. */
  move: Move | null;
  onBook: (quote: Quote, startsAt: string) => void;
  onClose: () => void;
}

/** The form with its preview, and the button that begins the move. */
export function MoveFormPage(props: MoveFormPageProps): JSX.Element {
  const { trans } = useWords();
  const { hub, moves, kernelId, place, draft, onChange, move, onBook, onClose } = props;
  const offers = useResource(hub.offers);
  const me = useResource(hub.me);
  const [previewer] = useState(() => new Previewer(hub.client));
  useSignal(previewer.changed);
  useEffect(() => () => previewer.dispose(), [previewer]);

  // Begin with what can be had now and costs least, and with the usual length, once they are known.
  const best = offers.value && modelsOf(offers.value)[0];
  const { defaults, limits } = me.value ?? {};
  const usual = defaults?.duration_seconds ?? limits?.default_duration_seconds;
  const isGpu = draft.target === "gpu";
  useEffect(() => {
    if (isGpu && !draft.model && best) {
      onChange({ model: best.model });
    }
    if (isGpu && draft.durationSeconds === null && usual) {
      onChange({ durationSeconds: usual });
    }
  });
  const isChosen = !isGpu || (draft.model !== null && draft.durationSeconds !== null) || !!offers.error || !!me.error;
  // Agreeing to a loss does not change what would be lost.
  const asked = wishOf({ ...draft, acceptsLoss: false }, kernelId);
  useEffect(() => {
    if (isChosen) {
      previewer.ask(asked);
    }
  });

  const { answer, error, isAsking } = previewer;
  const why = hindrance(trans, draft, previewer, place);
  const isWaiting = move?.phase === "asking";
  const refusal = move?.phase === "refused" ? move.error : null;
  const field = answer && fieldOf(answer);
  const foreseen = field && answer?.problem ? { field, message: answer.problem.message } : null;
  const begin = () => {
    if (!why && !isWaiting) {
      if (move && refusal?.isTransient && JSON.stringify(move.wish) === JSON.stringify(wishOf(draft, kernelId))) {
        void move.begin();
      } else {
        moves.begin(kernelId, wishOf(draft, kernelId));
      }
    }
  };
  const act = isGpu ? trans.__("Move the notebook") : trans.__("Move back");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        begin();
      }}
    >
      <MoveForm
        draft={draft}
        onChange={onChange}
        offers={offers.value}
        me={me.value}
        names={previewer.names}
        error={refusal ?? foreseen}
      />
      {offers.error && isGpu && <ErrorNote error={offers.error} onRetry={() => void hub.offers.refresh()} />}
      <MovePreview
        draft={draft}
        answer={answer}
        error={error}
        isAsking={isAsking}
        idleSeconds={defaults?.idle_timeout_seconds ?? limits?.idle_timeout_seconds}
        onChange={onChange}
        onRetry={() => previewer.again(asked)}
        onBook={(quote, startsAt) => {
          onClose();
          onBook(quote, startsAt);
        }}
      />
      {refusal && !refusal.field && <ErrorNote error={refusal} />}
      <div className="ch-MoveButtons">
        <Button label={trans.__("Not now")} onClick={onClose} />
        <Button
          kind="accept"
          label={isWaiting ? trans.__("Asking…") : act}
          disabled={!!why || isWaiting}
          {...(why && { why })}
          onClick={begin}
        />
      </div>
      <p className="ch-MoveWhy" role="status">
        {why}
      </p>
    </form>
  );
}

/** Why the move can't begin as the form stands; null when it can. */
function hindrance(
  trans: ReturnType<typeof useWords>["trans"],
  draft: MoveDraft,
  { answer, error, isAsking }: Pick<Previewer, "answer" | "error" | "isAsking">,
  place: KernelPlace | null,
): string | null {
  if (place && !place.may.move && place.may.why) {
    return place.may.why;
  }
  if (isAsking || (!answer && !error)) {
    return trans.__("Asking what the move costs…");
  }
  if (!answer) {
    // The way back costs nothing, and must not wait for a price.
    return draft.target === "gpu" ? trans.__("What the move costs is not known. Try again above.") : null;
  }
  if (draft.keep !== "none" && lostIn(answer).length && !draft.acceptsLoss) {
    return trans.__("Say first that what can't come along may stay behind.");
  }
  const { problem } = answer;
  return problem && problem.code !== "loss_not_accepted" ? trans.__("See above why it can't move like this.") : null;
}
