import { MainAreaWidget } from "@jupyterlab/apputils";
import { URLExt } from "@jupyterlab/coreutils";
import type { Terminal } from "@jupyterlab/services";
import { ServerConnection, TerminalManager } from "@jupyterlab/services";
import type { Terminal as TerminalWidget } from "@jupyterlab/terminal";
import type { ITranslator } from "@jupyterlab/translation";
import { terminalIcon } from "@jupyterlab/ui-components";
import { UUID } from "@lumino/coreutils";

/**
 * Connect to a new terminal beside a lease's kernel.
 *
 * It speaks as Jupyter's own terminals do, at an address of ours: those are for whoever may use the server, this one for
 * who pays for the lease.
 */
export function connect(settings: ServerConnection.ISettings, leaseId: string): Terminal.ITerminalConnection {
  const path = `api/computehub/v1/leases/${encodeURIComponent(leaseId)}/`;
  const serverSettings = ServerConnection.makeSettings({
    ...settings,
    baseUrl: URLExt.join(settings.baseUrl, path),
    wsUrl: URLExt.join(settings.wsUrl, path),
  });
  const name = UUID.uuid4();
  // It begins with its connection and ends with it: there is nothing to list, start or shut down by other requests.
  const terminalAPIClient: Terminal.ITerminalAPIClient = {
    serverSettings,
    isAvailable: false,
    startNew: async () => ({ name }),
    listRunning: async () => [{ name }],
    shutdown: async () => undefined,
  };
  const manager = new TerminalManager({ serverSettings, terminalAPIClient, standby: () => true });
  const connection = manager.connectTo({ model: { name } });
  connection.disposed.connect(() => manager.dispose());
  return connection;
}

/**
 * A tab with JupyterLab's own terminal. What is on it stays to be read when the terminal has ended.
 *
 * @throws where this JupyterLab has no terminals.
 */
export async function newTerminal(
  connection: Terminal.ITerminalConnection,
  title: string,
  caption: string,
  translator: ITranslator,
): Promise<MainAreaWidget<TerminalWidget>> {
  // Not before it is wanted: with what it stands on it is larger than all of this panel, and comes from JupyterLab.
  const { Terminal: Widget } = await import("@jupyterlab/terminal");
  const content = new Widget(connection, { theme: "inherit", closeOnExit: false, shutdownOnClose: false }, translator);
  const widget = new MainAreaWidget({ content });
  // The widget leaves its session open when it is closed: Jupyter's own may be opened again.
  widget.disposed.connect(() => connection.dispose());
  widget.id = `computehub-terminal-${connection.name}`;
  const name = () => {
    // The shell and the widget itself call it otherwise, which would not say where it is.
    if (content.title.label !== title) {
      content.title.label = title;
    }
  };
  content.title.changed.connect(name);
  name();
  content.title.caption = caption;
  content.title.icon = terminalIcon;
  return widget;
}
