import { ApiError } from "../api/errors";
import { Remembered } from "../models/remembered";
import { Wishes } from "../models/wishes";

describe("Wishes", () => {
  it("sends a wish once while it is under way", async () => {
    const wishes = new Wishes();
    const send = jest.fn(async (key: string) => key);
    const [first, second] = await Promise.all([wishes.once("end", send), wishes.once("end", send)]);
    expect(send).toHaveBeenCalledTimes(1);
    expect(first).toBe(second);
  });

  it("tries one whose answer got lost again with its key, and takes a new one after an answer", async () => {
    const wishes = new Wishes();
    const keys: string[] = [];
    const outcomes: (ApiError | null)[] = [new ApiError("timeout", "late"), null, new ApiError("conflict", "no", 409)];
    const send = async (key: string) => {
      keys.push(key);
      const outcome = outcomes.shift();
      if (outcome) {
        throw outcome;
      }
    };
    await expect(wishes.once("extend", send)).rejects.toMatchObject({ code: "timeout" });
    await wishes.once("extend", send);
    await expect(wishes.once("extend", send)).rejects.toMatchObject({ code: "conflict" });
    await wishes.once("extend", send);
    expect(keys[1]).toBe(keys[0]);
    expect(new Set(keys).size).toBe(3);
  });

  it("keeps different wishes apart", async () => {
    const wishes = new Wishes();
    const keys: string[] = [];
    const send = async (key: string) => void keys.push(key);
    await Promise.all([wishes.once("extend 900", send), wishes.once("extend 1800", send)]);
    expect(new Set(keys).size).toBe(2);
  });
});

describe("Remembered", () => {
  const initial = { text: "", order: "price" };

  it("takes up what was saved, and keeps what a later version added", async () => {
    const store = { fetch: async () => ({ text: "t4" }), save: async () => undefined };
    const remembered = new Remembered(initial, "key", store);
    await remembered.load();
    expect(remembered.state).toEqual({ text: "t4", order: "price" });
  });

  it("lets nothing saved undo what the person did meanwhile", async () => {
    const save = jest.fn(async () => undefined);
    const remembered = new Remembered(initial, "key", { fetch: async () => ({ text: "t4" }), save });
    const loading = remembered.load();
    remembered.set({ text: "a100" });
    await loading;
    expect(remembered.state.text).toBe("a100");
    expect(save).toHaveBeenCalledWith("key", { text: "a100", order: "price" });
  });

  it("goes on without a store, and with one that fails", async () => {
    const broken = {
      fetch: () => Promise.reject(new Error("gone")),
      save: () => Promise.reject(new Error("gone")),
    };
    for (const store of [null, broken]) {
      const remembered = new Remembered(initial, "key", store);
      await remembered.load();
      remembered.set({ order: "free" });
      expect(remembered.state.order).toBe("free");
    }
  });
});
