import { DEFAULTS, Preferences } from "../models/preferences";
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
