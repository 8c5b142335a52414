import type { ISettingRegistry } from "@jupyterlab/settingregistry";
import type { TranslationBundle } from "@jupyterlab/translation";

const READ_BY_PEOPLE = new Set(["title", "description", "jupyter.lab.setting-icon-label"]);

/**
 * A settings schema in the language of the interface.
 *
 * Jupyter's server translates schemas by language packs alone, which hold no words of ours; so it is done here, by our own
 * catalogue, into which `scripts/translations.py` puts these words as well.
 */
export function translatedSchema(
  schema: ISettingRegistry.ISchema,
  bundle: TranslationBundle,
): ISettingRegistry.ISchema {
  // The contexts are those that Jupyter's own tools extract a schema's words under.
  const translate = (value: unknown, context: "schema" | "settings"): unknown => {
    if (Array.isArray(value)) {
      return value.map((inner) => translate(inner, "settings"));
    }
    if (typeof value !== "object" || value === null) {
      return value;
    }
    const entries = Object.entries(value).map(([name, inner]) => [
      name,
      READ_BY_PEOPLE.has(name) && typeof inner === "string" ? bundle._p(context, inner) : translate(inner, "settings"),
    ]);
    return Object.fromEntries(entries);
  };
  return translate(schema, "schema") as ISettingRegistry.ISchema;
}
