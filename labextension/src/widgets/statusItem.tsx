import type { INotebookTracker } from "@jupyterlab/notebook";
import { PathExt } from "@jupyterlab/coreutils";
import { ReactWidget } from "@jupyterlab/ui-components";
import { useEffect, useState } from "react";

import { StatusItem } from "../components/statusItem";
import type { Words } from "../components/words";
import { WordsContext } from "../components/words";
import type { ComputeHub } from "../models/hub";
import { NotebookPlace } from "../models/notebookPlace";
import { useNow, useResource, useSignal } from "./hooks";

export interface StatusItemOptions {
  hub: ComputeHub;
  /** Which notebook is in front; null where there are none. */
  tracker: INotebookTracker | null;
  words: Words;
  onClick: () => void;
}

/** The item in the status bar. */
export class StatusItemWidget extends ReactWidget {
  constructor(private readonly options: StatusItemOptions) {
    super();
    this.addClass("ch-StatusItem-widget");
  }

  protected render(): JSX.Element {
    return (
      <WordsContext.Provider value={this.options.words}>
        <Content {...this.options} />
      </WordsContext.Provider>
    );
  }
}

function Content({ hub, tracker, onClick }: StatusItemOptions): JSX.Element | null {
  const place = usePlaceInFront(hub, tracker);
  const me = useResource(hub.me);
  const leases = useResource(hub.leases);
  const here = place?.value?.lease ?? null;
  const running = (leases.value ?? []).filter(({ state }) => state === "running");
  const next = running.sort((a, b) => a.ends_at.localeCompare(b.ends_at))[0] ?? null;
  const lease = here ?? next;
  const now = useNow(hub.clock, !!lease);
  if (!me.value) {
    return null;
  }
  const elsewhere = here || !lease ? null : PathExt.basename(lease.notebook_path ?? "");
  const shown = { lease, elsewhere, availableMicrocredits: me.value.balance.available_microcredits, onClick };
  return <StatusItem {...shown} now={now} />;
}

/** The place of the notebook in front, watched while it is there. */
function usePlaceInFront(hub: ComputeHub, tracker: INotebookTracker | null): NotebookPlace | null {
  const [place, setPlace] = useState<NotebookPlace | null>(null);
  useEffect(() => {
    let shown: NotebookPlace | null = null;
    const follow = () => {
      shown?.dispose();
      const panel = tracker?.currentWidget;
      shown = panel ? new NotebookPlace(hub, panel.sessionContext) : null;
      shown?.watch();
      setPlace(shown);
    };
    follow();
    tracker?.currentChanged.connect(follow);
    return () => {
      tracker?.currentChanged.disconnect(follow);
      shown?.dispose();
    };
  }, [hub, tracker]);
  useSignal(place?.changed ?? null);
  return place;
}
