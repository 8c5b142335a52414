import { ReactWidget } from "@jupyterlab/ui-components";

import type { Words } from "../components/words";
import { WordsContext } from "../components/words";
import { gpuIcon } from "../icons";
import type { ComputeHub } from "../models/hub";
import { useResource } from "./hooks";

/** The sidebar: balance, lease, offers, bookings and history, one under the other. */
export class Sidebar extends ReactWidget {
  constructor(
    private readonly hub: ComputeHub,
    private readonly words: Words,
  ) {
    super();
    this.id = "computehub-sidebar";
    this.addClass("ch-Sidebar");
    this.title.icon = gpuIcon;
    this.title.caption = words.trans.__("GPUs and credits");
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", words.trans.__("GPUs and credits"));
  }

  protected render(): JSX.Element {
    return (
      <WordsContext.Provider value={this.words}>
        <SidebarContent hub={this.hub} words={this.words} />
      </WordsContext.Provider>
    );
  }
}

function SidebarContent({ hub, words }: { hub: ComputeHub; words: Words }): JSX.Element {
  const me = useResource(hub.me);
  return <p>{me.value && words.formats.credits(me.value.balance.available_microcredits)}</p>;
}
