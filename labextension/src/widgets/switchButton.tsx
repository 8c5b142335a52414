import { ReactWidget } from "@jupyterlab/ui-components";
import type { IDisposable } from "@lumino/disposable";

import { SwitchButton } from "../components/switchButton";
import type { Words } from "../components/words";
import { WordsContext } from "../components/words";
import type { ComputeHub } from "../models/hub";
import type { Moves } from "../models/moves";
import type { NotebookPlace } from "../models/notebookPlace";
import { useNow, useSignal } from "./hooks";

export interface SwitchButtonOptions {
  hub: ComputeHub;
  moves: Moves;
  notebook: NotebookPlace;
  words: Words;
  onClick: () => void;
}

/** The button beside a notebook's kernel name. While its notebook is behind another tab it asks nothing. */
export class SwitchButtonWidget extends ReactWidget {
  constructor(private readonly options: SwitchButtonOptions) {
    super();
    this.addClass("ch-SwitchButton-item");
  }

  override dispose(): void {
    this.unwatch();
    super.dispose();
  }

  protected render(): JSX.Element {
    return (
      <WordsContext.Provider value={this.options.words}>
        <Content {...this.options} />
      </WordsContext.Provider>
    );
  }

  protected override onAfterAttach(message: never): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      this.watch ??= this.options.notebook.watch();
    }
  }

  protected override onAfterShow(): void {
    this.watch ??= this.options.notebook.watch();
  }

  protected override onBeforeHide(): void {
    this.unwatch();
  }

  protected override onBeforeDetach(message: never): void {
    this.unwatch();
    super.onBeforeDetach(message);
  }

  private unwatch(): void {
    this.watch?.dispose();
    this.watch = null;
  }

  private watch: IDisposable | null = null;
}

function Content({ hub, moves, notebook, onClick }: SwitchButtonOptions): JSX.Element | null {
  useSignal(notebook.changed);
  useSignal(moves.changed);
  const { kernelId, state, value: place } = notebook;
  const mine = kernelId ? moves.of(kernelId) : null;
  const moving = (mine?.phase === "moving" ? mine.value : null) ?? place?.switch ?? null;
  const now = useNow(hub.clock, !!place?.lease && !moving);
  // Without our server part a notebook looks as it does without us.
  if (!kernelId || state?.error?.code === "missing") {
    return null;
  }
  return <SwitchButton place={place} moving={moving} now={now} onClick={onClick} />;
}
