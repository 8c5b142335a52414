import { ReactWidget } from "@jupyterlab/ui-components";
import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import { useLayoutEffect, useRef } from "react";

import { TourCard } from "../components/tour";
import type { Words } from "../components/words";
import { WordsContext } from "../components/words";
import type { Tour } from "../models/tour";
import { useSignal } from "./hooks";

const GAP_PX = 12;
const SHOWN = "ch-Tour-shown";

/** Takes a person through a tour: a card beside each thing. It lies below dialogs, and goes away with its tour. */
export class TourWidget extends ReactWidget {
  constructor(
    private readonly tour: Tour,
    private readonly words: Words,
  ) {
    super();
    this.addClass("ch-Tour");
    this.before = document.activeElement;
    tour.changed.connect(this.follow, this);
  }

  /** Show it until it is over. */
  start(): void {
    Widget.attach(this, document.body);
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    document.removeEventListener("keydown", this.onKey, true);
    this.tour.dispose();
    const hadFocus = this.node.contains(document.activeElement);
    super.dispose();
    if (hadFocus && this.before instanceof HTMLElement) {
      this.before.focus();
    }
  }

  protected render(): JSX.Element {
    return (
      <WordsContext.Provider value={this.words}>
        <Stops tour={this.tour} />
      </WordsContext.Provider>
    );
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    document.addEventListener("keydown", this.onKey, true);
  }

  private follow(): void {
    if (this.tour.isDisposed) {
      this.dispose();
    }
  }

  private onKey = (event: KeyboardEvent) => {
    // A dialog or a menu that opened meanwhile has its own use for the key.
    if (event.key === "Escape" && !document.querySelector(".jp-Dialog, .lm-Menu")) {
      event.preventDefault();
      event.stopPropagation();
      this.dispose();
    }
  };

  private readonly before: Element | null;
}

function Stops({ tour }: { tour: Tour }): JSX.Element | null {
  useSignal(tour.changed);
  const place = useRef<HTMLDivElement>(null);
  const { at, stop, stops } = tour;
  useLayoutEffect(() => {
    const target = stop?.find();
    target?.classList.add(SHOWN);
    const put = () => place.current && putBeside(place.current, target ?? null);
    put();
    window.addEventListener("resize", put);
    return () => {
      target?.classList.remove(SHOWN);
      window.removeEventListener("resize", put);
    };
  }, [stop]);
  return (
    stop && (
      <div ref={place} className="ch-Tour-place">
        <TourCard
          title={stop.title}
          text={stop.text}
          number={at + 1}
          count={stops.length}
          onBack={() => tour.back()}
          onNext={() => tour.next()}
          onEnd={() => tour.dispose()}
        />
      </div>
    )
  );
}

/** Beside its target where there is room, else over it; always within the window. */
function putBeside(card: HTMLElement, target: Element | null): void {
  const { innerHeight, innerWidth } = window;
  const { width, height } = card.getBoundingClientRect();
  const within = (at: number, size: number, room: number) => Math.max(GAP_PX, Math.min(at, room - size - GAP_PX));
  const { left, right, top, bottom } = target?.getBoundingClientRect() ?? {
    left: (innerWidth - width) / 2,
    right: innerWidth,
    top: innerHeight / 3,
    bottom: innerHeight,
  };
  let [x, y] = [left, bottom + GAP_PX];
  if (y + height > innerHeight) {
    // Nothing fits below it: above a thing at the bottom, and beside one that is as high as the window.
    y = top - height - GAP_PX;
    if (y < 0) {
      y = top + GAP_PX;
      x = left - width - GAP_PX > 0 ? left - width - GAP_PX : right + GAP_PX;
    }
  }
  card.style.left = `${within(x, width, innerWidth)}px`;
  card.style.top = `${within(y, height, innerHeight)}px`;
}
