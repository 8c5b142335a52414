import { Dialog } from "@jupyterlab/apputils";
import { ReactWidget } from "@jupyterlab/ui-components";
import { Widget } from "@lumino/widgets";

/**
 * Leaves a dialog's body as it is: the usual renderer puts wrappers around its inputs, which React then no longer finds
 * where it left them.
 */
export class PlainRenderer extends Dialog.Renderer {
  override createBody(body: Dialog.Body<unknown>): Widget {
    const widget = body instanceof Widget ? body : ReactWidget.create(body as React.ReactElement);
    widget.addClass("jp-Dialog-body");
    return widget;
  }
}
