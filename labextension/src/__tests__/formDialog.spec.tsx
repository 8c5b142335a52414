import { nullTranslator } from "@jupyterlab/translation";

import { ApiError } from "../api/errors";
import { wordsOf } from "../components/words";
import { askWithForm } from "../widgets/formDialog";

const words = wordsOf(nullTranslator.load("computehub"), "en");
const dialog = () => document.querySelector<HTMLElement>(".ch-Dialog");
const press = (name: string) => {
  const buttons = [...document.querySelectorAll<HTMLElement>(".jp-Dialog-footer button")];
  buttons.find(({ textContent }) => textContent === name)?.click();
};

/** Wait for what React and the dialog do by themselves. */
async function until(condition: () => unknown): Promise<void> {
  for (let turn = 0; turn < 200 && !condition(); turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(condition()).toBeTruthy();
}

function ask(send: (typed: string) => Promise<unknown>, isValid?: (typed: string) => boolean): Promise<boolean> {
  return askWithForm({
    title: "How much",
    accept: "Save",
    words,
    initial: "5",
    isValid,
    send,
    render: ({ value, onChange, error }) => (
      <>
        <input aria-label="Amount" value={value} onChange={(event) => onChange(event.target.value)} />
        {error && <p role="alert">{error.message}</p>}
      </>
    ),
  });
}

describe("askWithForm", () => {
  it("stays open with what was typed and the reason, until the server takes it", async () => {
    const answers: (() => void)[] = [
      () => {
        throw new ApiError("invalid", "Too much.", 422);
      },
      () => undefined,
    ];
    const send = jest.fn(async () => answers.shift()?.());
    const asked = ask(send);
    await until(() => dialog()?.querySelector("input"));
    press("Save");
    press("Save");
    await until(() => dialog()?.querySelector("[role=alert]"));
    expect(send).toHaveBeenCalledTimes(1);
    expect(dialog()?.querySelector("input")?.value).toBe("5");
    press("Save");
    expect(await asked).toBe(true);
    expect(dialog()).toBeNull();
  });

  it("sends nothing that can't be right, and nothing that is given up", async () => {
    const send = jest.fn(async () => undefined);
    const asked = ask(send, () => false);
    await until(() => dialog()?.querySelector("input"));
    press("Save");
    press("Cancel");
    expect(await asked).toBe(false);
    expect(send).not.toHaveBeenCalled();
  });
});
