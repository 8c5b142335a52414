import { ApiError } from "../api/errors";
import { Resource } from "../models/resource";

const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) {
    await Promise.resolve();
  }
};

function hide(hidden: boolean): void {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
}

afterEach(() => hide(false));

describe("Resource", () => {
  it("fetches for nobody, and once for many", async () => {
    const fetch = jest.fn(async () => 1);
    const resource = new Resource(fetch, { name: "test" });
    resource.invalidate();
    await settle();
    expect(fetch).toHaveBeenCalledTimes(0);
    const first = new Promise((resolve) => resource.changed.connect((_, { value }) => value && resolve(value)));
    const uses = [resource.use(), resource.use()];
    await first;
    expect(fetch).toHaveBeenCalledTimes(1);
    uses.forEach((use) => use.dispose());
    resource.dispose();
  });

  it("asks once more for what changed while it was asking", async () => {
    let answer: (value: number) => void = () => undefined;
    const fetch = jest.fn(() => new Promise<number>((resolve) => (answer = resolve)));
    const resource = new Resource(fetch, { name: "test" });
    const done = resource.refresh();
    void resource.refresh();
    void resource.refresh();
    answer(1);
    await settle();
    expect(fetch).toHaveBeenCalledTimes(2);
    answer(2);
    await done;
    expect(resource.value).toBe(2);
    expect(fetch).toHaveBeenCalledTimes(2);
  });

  it("keeps the old value beside a failure, and forgets the failure with the next answer", async () => {
    const answers: (() => number)[] = [
      () => 1,
      () => {
        throw new ApiError("unreachable", "gone");
      },
      () => 2,
    ];
    const resource = new Resource(async () => answers.shift()!(), { name: "test" });
    await resource.refresh();
    await resource.refresh();
    expect(resource.state).toMatchObject({ value: 1, isFetching: false, error: { code: "unreachable" } });
    await resource.refresh();
    expect(resource.state).toMatchObject({ value: 2, error: null });
  });

  it("takes no answer that was asked for before a write was answered", async () => {
    const answers: ((value: string) => void)[] = [];
    const resource = new Resource(() => new Promise<string>((resolve) => answers.push(resolve)), { name: "test" });
    const seen: (string | undefined)[] = [];
    resource.changed.connect((_, { value }) => seen.push(value));
    const done = resource.refresh();
    resource.set("written");
    answers[0]!("old");
    await settle();
    answers[1]!("new");
    await done;
    expect(seen).not.toContain("old");
    expect(resource.state).toMatchObject({ value: "new", isFetching: false });
    resource.dispose();
  });

  it("asks nothing for a view that opens in a hidden tab before that is seen", async () => {
    hide(true);
    const fetch = jest.fn(async () => 1);
    const resource = new Resource(fetch, { name: "test" });
    const use = resource.use();
    await settle();
    expect(fetch).toHaveBeenCalledTimes(0);
    hide(false);
    resource.look();
    await settle();
    expect(fetch).toHaveBeenCalledTimes(1);
    use.dispose();
    resource.dispose();
  });

  it("asks nothing in a hidden tab, and what it missed when the tab is seen", async () => {
    const fetch = jest.fn(async () => 1);
    const resource = new Resource(fetch, { name: "test" });
    const use = resource.use();
    await resource.refresh();
    const before = fetch.mock.calls.length;
    hide(true);
    resource.invalidate();
    await settle();
    expect(fetch).toHaveBeenCalledTimes(before);
    hide(false);
    resource.look();
    await settle();
    expect(fetch).toHaveBeenCalledTimes(before + 1);
    use.dispose();
    resource.dispose();
  });

  it("looks soon again after a value that will not stay, while somebody looks at it", async () => {
    jest.useFakeTimers();
    let left = 3;
    const fetch = jest.fn(async () => (left -= 1));
    const options = { name: "test", intervalMs: 1e7, soonMs: (value: number) => (value ? 1000 : 0) };
    const resource = new Resource(fetch, options);
    const use = resource.use();
    await jest.advanceTimersByTimeAsync(900);
    expect(fetch).toHaveBeenCalledTimes(1);
    await jest.advanceTimersByTimeAsync(400);
    expect(fetch).toHaveBeenCalledTimes(2);
    hide(true);
    await jest.advanceTimersByTimeAsync(20_000);
    expect(fetch).toHaveBeenCalledTimes(2);
    hide(false);
    resource.look();
    await jest.advanceTimersByTimeAsync(20_000);
    expect(fetch).toHaveBeenCalledTimes(3);
    use.dispose();
    resource.dispose();
    jest.useRealTimers();
  });

  it("tries again by itself, later each time, while somebody looks; and not what was refused for good", async () => {
    jest.useFakeTimers();
    let error: ApiError | null = new ApiError("unreachable", "gone");
    const fetch = jest.fn(async () => {
      if (error) {
        throw error;
      }
      return 1;
    });
    const resource = new Resource(fetch, { name: "test", intervalMs: 1e7 });
    const use = resource.use();
    await jest.advanceTimersByTimeAsync(3900);
    expect(fetch).toHaveBeenCalledTimes(1);
    await jest.advanceTimersByTimeAsync(1200);
    expect(fetch).toHaveBeenCalledTimes(2);
    await jest.advanceTimersByTimeAsync(7000);
    expect(fetch).toHaveBeenCalledTimes(2);
    error = new ApiError("busy", "Too often.", 429, {}, 30);
    await jest.advanceTimersByTimeAsync(4000);
    expect(fetch).toHaveBeenCalledTimes(3);
    await jest.advanceTimersByTimeAsync(25_000);
    expect(fetch).toHaveBeenCalledTimes(3);
    error = new ApiError("forbidden", "No.", 403);
    await jest.advanceTimersByTimeAsync(12_000);
    expect(fetch).toHaveBeenCalledTimes(4);
    await jest.advanceTimersByTimeAsync(300_000);
    expect(fetch).toHaveBeenCalledTimes(4);
    error = null;
    await resource.refresh();
    expect(resource.state).toMatchObject({ value: 1, error: null });
    use.dispose();
    resource.dispose();
    jest.useRealTimers();
  });
});
