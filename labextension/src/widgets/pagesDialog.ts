import { Dialog } from "@jupyterlab/apputils";
import { Widget } from "@lumino/widgets";

import { PlainRenderer } from "./plainRenderer";

const FOCUSABLE =
  'button, [href], input:not([type="hidden"]), select, textarea, summary, [tabindex]:not([tabindex="-1"])';

/** The buttons are the body's own: which there are changes with what the body shows. */
class Renderer extends PlainRenderer {
  override createFooter(): Widget {
    const none = new Widget();
    none.hide();
    return none;
  }
}

/** A dialog whose body is a form of several pages: Enter belongs to the form, and Tab goes round in it. */
export class PagesDialog extends Dialog<void> {
  constructor(title: string, body: React.ReactElement) {
    super({ title, body, buttons: [], hasClose: true, renderer: new Renderer(), focusNodeSelector: "[data-first]" });
    this.addClass("ch-PagesDialog");
    this.node.setAttribute("aria-label", title);
  }

  protected override _evtKeydown(event: KeyboardEvent): void {
    if (event.key === "Escape") {
      event.stopPropagation();
      event.preventDefault();
      this.reject();
    } else if (event.key === "Tab") {
      this.goRound(event);
    }
  }

  /** Behind the dialog nothing can be reached, so focus goes from its last element to its first and back. */
  private goRound(event: KeyboardEvent): void {
    const all = [...this.node.querySelectorAll<HTMLElement>(FOCUSABLE)].filter((each) => each.checkVisibility());
    const [first, last] = [all[0], all[all.length - 1]];
    const at = document.activeElement;
    const leaves = event.shiftKey ? at === first || !all.includes(at as HTMLElement) : at === last;
    if (leaves) {
      event.preventDefault();
      (event.shiftKey ? last : first)?.focus();
    }
  }
}
