import { Dialog, Notification } from "@jupyterlab/apputils";
import { ReactWidget } from "@jupyterlab/ui-components";
import type { ReactElement } from "react";

import type { ApiError } from "../api/errors";
import { asApiError } from "../api/errors";
import type { Words } from "../components/words";
import { reasonInWords, WordsContext } from "../components/words";
import { PlainRenderer } from "./plainRenderer";

export interface FormOptions<Value> {
  title: string;
  /** The words of the button that sends the form. */
  accept: string;
  isGrave?: boolean;
  words: Words;
  initial: Value;
  /** What has the focus at first, as a selector; the first input by default. */
  focus?: string;
  render: (form: { value: Value; onChange: (value: Value) => void; error: ApiError | null }) => ReactElement;
  /** Whether the form can be sent as it is. */
  isValid?: (value: Value) => boolean;
  send: (value: Value) => Promise<unknown>;
}

/**
 * Ask with a form that stays open until the server has taken it: what was refused keeps what was typed.
 *
 * @returns whether it was sent and taken.
 */
export async function askWithForm<Value>(options: FormOptions<Value>): Promise<boolean> {
  const result = await new FormDialog(new FormBody(options), options).launch();
  return result.button.accept;
}

class FormBody<Value> extends ReactWidget {
  constructor(private readonly options: FormOptions<Value>) {
    super();
    this.value = options.initial;
  }

  value: Value;
  error: ApiError | null = null;

  protected render(): JSX.Element {
    const { render, words } = this.options;
    const onChange = (value: Value) => {
      this.value = value;
      this.error = null;
      this.update();
    };
    return (
      <WordsContext.Provider value={words}>
        {render({ value: this.value, onChange, error: this.error })}
      </WordsContext.Provider>
    );
  }
}

class FormDialog<Value> extends Dialog<unknown> {
  constructor(
    private readonly form: FormBody<Value>,
    private readonly options: FormOptions<Value>,
  ) {
    const { accept, focus = "input", isGrave, title, words } = options;
    const label = words.trans.__("Cancel");
    super({
      title,
      body: form,
      buttons: [
        Dialog.cancelButton({ label }),
        isGrave ? Dialog.warnButton({ label: accept }) : Dialog.okButton({ label: accept }),
      ],
      focusNodeSelector: focus,
      renderer: new PlainRenderer(),
    });
    this.addClass("ch-Dialog");
  }

  /** Every way to press a button ends here; the one that sends waits for the answer. */
  override resolve(index: number = ACCEPT): void {
    if (index !== ACCEPT) {
      super.resolve(index);
    } else if (!this.isSending && (this.options.isValid?.(this.form.value) ?? true)) {
      void this.send();
    }
  }

  private async send(): Promise<void> {
    this.showSending(true);
    try {
      await this.options.send(this.form.value);
      super.resolve(ACCEPT);
    } catch (reason) {
      const error = asApiError(reason);
      if (this.isDisposed || !this.isAttached) {
        // The person closed the dialog meanwhile and would not hear of it otherwise.
        Notification.error(reasonInWords(error, this.options.words));
        return;
      }
      this.form.error = error;
      this.form.update();
      this.showSending(false);
    }
  }

  private showSending(isSending: boolean): void {
    this.isSending = isSending;
    const button = this.node.querySelector(".jp-Dialog-footer .jp-mod-accept, .jp-Dialog-footer .jp-mod-warn");
    button?.classList.toggle("ch-mod-busy", isSending);
    button?.setAttribute("aria-busy", String(isSending));
  }

  private isSending = false;
}

const ACCEPT = 1;
