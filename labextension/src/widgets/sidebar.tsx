import { ReactWidget } from "@jupyterlab/ui-components";
import type { IDisposable } from "@lumino/disposable";
import { DisposableDelegate } from "@lumino/disposable";
import type { Message } from "@lumino/messaging";
import { MessageLoop } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";

import { BalanceView } from "../components/balance";
import { AllowanceView } from "../components/allowance";
import { ErrorNote } from "../components/parts";
import { ServerPartNote } from "../components/serverPart";
import { TourNote } from "../components/tour";
import type { Words } from "../components/words";
import { WordsContext } from "../components/words";
import { CommandIDs } from "../commands";
import { gpuIcon } from "../icons";
import { useResource, useSignal } from "./hooks";
import type { SidebarParts } from "./sidebarParts";
import { ApprovalsPart, BookingsPart, HistoryPart, LeasesPart, OffersPart, Part } from "./sidebarParts";

export const SIDEBAR_ID = "computehub-sidebar";

/** The sidebar: balance, running GPUs, offers, bookings and history, one under the other. */
export class Sidebar extends ReactWidget {
  constructor(
    private readonly parts: SidebarParts,
    private readonly words: Words,
  ) {
    super();
    this.id = SIDEBAR_ID;
    this.addClass("ch-Sidebar");
    this.title.icon = gpuIcon;
    this.title.caption = words.trans.__("GPUs and credits");
    this.node.tabIndex = -1;
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", words.trans.__("GPUs and credits"));
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this.unused?.dispose();
      this.parts.history.dispose();
    }
    super.dispose();
  }

  /** Behind another tab nothing is rendered, so that nothing is fetched. */
  protected render(): JSX.Element {
    return (
      <WordsContext.Provider value={this.words}>
        {this.isVisible && <SidebarContent parts={this.parts} words={this.words} />}
      </WordsContext.Provider>
    );
  }

  /** By the command or the tab: the keyboard is where the eyes are. */
  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.node.focus();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    // At once: what is only asked for waits until the page that is being restored has been drawn.
    const { me, offers, leases, bookings } = this.parts.hub;
    const uses = [me, offers, leases, bookings].map((each) => each.use());
    MessageLoop.sendMessage(this, Widget.Msg.UpdateRequest);
    this.unused?.dispose();
    this.unused = new DisposableDelegate(() => uses.forEach((use) => use.dispose()));
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.unused?.dispose();
    this.update();
  }

  /** Ends the use of what is shown. */
  private unused: IDisposable | null = null;
}

function SidebarContent({ parts, words: { trans } }: { parts: SidebarParts; words: Words }): JSX.Element {
  const { commands, hub, remembered } = parts;
  const me = useResource(hub.me);
  useSignal(remembered.changed);
  useSignal(hub.serverPartChanged);
  const retry = () => void hub.me.refresh();
  const { serverPart } = hub;
  if (serverPart === "missing" || serverPart === "old" || (me.error && !me.value)) {
    return (
      <div className="ch-Sidebar-alone">
        <ServerPartNote part={serverPart} error={me.error} version={me.value?.server_version} onRetry={retry} />
      </div>
    );
  }
  return (
    <>
      {me.error && <ErrorNote error={me.error} onRetry={retry} />}
      {remembered.isLoaded && remembered.state.isTourOffered && commands.hasCommand(CommandIDs.startTour) && (
        <TourNote
          onStart={() => void commands.execute(CommandIDs.startTour)}
          onDecline={() => remembered.set({ isTourOffered: false })}
        />
      )}
      <ApprovalsPart parts={parts} />
      <Part parts={parts} name="balance" title={trans.__("Credits")} state={me} onRetry={retry} lines={4}>
        {(person) => (
          <>
            <BalanceView person={person} />
            <AllowanceView person={person} onChange={() => void commands.execute(CommandIDs.setAllowance)} />
          </>
        )}
      </Part>
      <LeasesPart parts={parts} />
      <OffersPart parts={parts} />
      <BookingsPart parts={parts} />
      <HistoryPart parts={parts} />
      {me.value && (
        <p className="ch-Hint ch-Sidebar-foot">
          {me.value.control_plane === "embedded"
            ? trans.__("ComputeHub %1, inside this Jupyter server", me.value.server_version)
            : trans.__("ComputeHub %1, as a service of this hub", me.value.server_version)}
        </p>
      )}
    </>
  );
}
