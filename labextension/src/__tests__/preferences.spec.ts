import { DEFAULTS, Preferences } from "../models/preferences";
import { translatedSchema } from "../models/schemaWords";
import schema from "../../schema/preferences.json";

describe("Preferences", () => {
  it("has the schema's names and defaults", () => {
    const defaults = Object.entries(schema.properties).map(([name, property]) => [name, property.default]);
    expect(Object.fromEntries(defaults)).toEqual(DEFAULTS);
  });

  it("answers with its defaults before the settings are read", () => {
    expect(new Preferences().get("keep")).toBe("all");
  });
});

describe("translatedSchema", () => {
  it("translates what people read, and leaves names and values as they are", () => {
    const german: Record<string, string> = { "Usual GPU": "Übliche GPU", "All variables": "Alle Variablen" };
    const trans = { _p: (_context: string, text: string) => german[text] ?? text } as never;
    const { properties } = translatedSchema(schema as never, trans) as unknown as typeof schema;
    expect(properties.model.title).toBe("Übliche GPU");
    expect(properties.model.default).toBe("");
    expect(properties.keep.oneOf[0]).toEqual({ const: "all", title: "Alle Variablen" });
    expect(Object.keys(properties)).toEqual(Object.keys(schema.properties));
  });
});
