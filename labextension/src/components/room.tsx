import type { Offer } from "../api/types";
import type { MoveDraft } from "../models/moveDraft";
import type { PreviewAnswer } from "../models/previewer";
import { Button, SimulatedBadge } from "./parts";
import type { Words } from "./words";
import { useWords } from "./words";

/** `16 GiB RAM` and `4 cores`: what a kernel may use beside the GPU, memory first, as far as somebody limits it. */
export function roomWords({ trans, formats }: Words, { kernel_limits: limits }: Offer): string[] {
  const words: string[] = [];
  if (limits.memory_mib) {
    words.push(trans.__("%1 RAM", formats.memory(limits.memory_mib)));
  }
  if (limits.cpus) {
    const count = formats.number(limits.cpus, 1);
    words.push(limits.cpus === 1 ? trans.__("%1 core", count) : trans.__("%1 cores", count));
  }
  return words;
}

/** A GPU's own memory, named as such wherever a kernel's main memory may stand beside it. */
export function gpuMemoryWords({ trans, formats }: Words, { memory_mib: memory }: Offer): string | null {
  return memory > 0 ? trans.__("%1 GPU memory", formats.memory(memory)) : null;
}

/** That the variables are too large for the place, and where they would fit. */
export function Cramped(props: {
  answer: PreviewAnswer;
  onChange: (change: Partial<MoveDraft>) => void;
}): JSX.Element | null {
  const words = useWords();
  const { trans, formats } = words;
  const found = props.answer.preview?.problems?.filter(({ kind }) => kind === "memory") ?? [];
  const label = (offer: Offer) => {
    const said = [...roomWords(words, offer).slice(0, 1), formats.rate(offer.rate_microcredits_per_hour)].join(", ");
    return offer.free_now > 0
      ? trans.__("Take %1 now (%2)", offer.model, said)
      : trans.__("%1 (%2), free from %3", offer.model, said, formats.dateTime(offer.earliest_at ?? ""));
  };
  return found.length ? (
    <div className="ch-Note ch-mod-warning ch-MoveRefusal" role="alert">
      {found.map(({ message }) => (
        <p key={message}>
          <strong>{trans.__("It may not fit.")}</strong> {message}
        </p>
      ))}
      <ul className="ch-MoveWays">
        {found.flatMap(({ fits }) =>
          (fits ?? []).map((offer) => (
            <li key={offer.pool_id}>
              <Button label={label(offer)} onClick={() => props.onChange({ model: offer.model, acceptsLoss: false })} />
              {offer.simulated && <SimulatedBadge />}
            </li>
          )),
        )}
      </ul>
    </div>
  ) : null;
}
