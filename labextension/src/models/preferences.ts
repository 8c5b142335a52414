import type { ISettingRegistry } from "@jupyterlab/settingregistry";
import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

/** What a person chose in the settings editor; `schema/preferences.json` says what each means. */
export interface Chosen {
  model: string;
  durationMinutes: number;
  keep: "all" | "none";
  idleMinutes: number;
  maxCreditsPerHour: number;
  showWarnings: boolean;
  showStatusBar: boolean;
  calendarView: "week" | "day";
  weekStartsOn: "monday" | "sunday" | "saturday";
}

/** What holds until the settings were read, and where there are none; the schema's own defaults. */
export const DEFAULTS: Readonly<Chosen> = {
  model: "",
  durationMinutes: 0,
  keep: "all",
  idleMinutes: 0,
  maxCreditsPerHour: 0,
  showWarnings: true,
  showStatusBar: true,
  calendarView: "week",
  weekStartsOn: "monday",
};

/** A person's settings, as other parts read them. */
export class Preferences implements IDisposable {
  /** Emitted when any of them changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** What a person set is known; before that everything looks as if nothing was. */
  get isLoaded(): boolean {
    return this.settings !== null;
  }

  get<Name extends keyof Chosen>(name: Name): Chosen[Name] {
    const chosen = this.settings?.get(name).composite as Chosen[Name] | undefined;
    return chosen ?? DEFAULTS[name];
  }

  /** Write a setting as the settings editor does; rejects where it can't be saved. */
  async set<Name extends keyof Chosen>(name: Name, value: Chosen[Name]): Promise<void> {
    await this.settings?.set(name, value);
  }

  /** Follow what the settings editor holds; called once they are read. */
  follow(settings: ISettingRegistry.ISettings): void {
    this.settings = settings;
    settings.changed.connect(this.tell, this);
    this.tell();
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.settings?.changed.disconnect(this.tell, this);
    Signal.clearData(this);
  }

  private tell(): void {
    this._changed.emit();
  }

  private _changed = new Signal<this, void>(this);
  private _isDisposed = false;
  private settings: ISettingRegistry.ISettings | null = null;
}
