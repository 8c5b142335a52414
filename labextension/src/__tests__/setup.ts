// A test that logs an error has one: React and Lumino report there what they swallow.
const complain = console.error;
beforeEach(() => {
  jest.spyOn(console, "error").mockImplementation((...said: unknown[]) => {
    complain(...said);
    throw new Error(`console.error: ${said.map(String).join(" ")}`);
  });
});
afterEach(() => {
  jest.restoreAllMocks();
});
