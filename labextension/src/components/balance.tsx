import type { Person } from "../api/types";
import { useWords } from "./words";

/** What you have, what of it is held, and where it came from. */
export function BalanceView({ person }: { person: Person }): JSX.Element {
  const { trans, formats } = useWords();
  const { available_microcredits, by_origin, held_microcredits } = person.balance;
  const origins: [string, string, number][] = [
    ["granted", trans.__("Granted"), by_origin.granted],
    ["purchased", trans.__("Bought"), by_origin.purchased],
    ["earned", trans.__("Earned"), by_origin.earned],
  ];
  return (
    <>
      <dl className="ch-Balance">
        <div className="ch-Balance-available">
          <dt>{trans.__("Available")}</dt>
          <dd>{formats.credits(available_microcredits)}</dd>
        </div>
        <div title={trans.__("Set aside for running GPUs and bookings; what they don't use comes back.")}>
          <dt>{trans.__("On hold")}</dt>
          <dd>{formats.credits(held_microcredits)}</dd>
        </div>
        {origins
          .filter(([, , amount]) => amount !== 0)
          .map(([origin, label, amount]) => (
            <div key={origin} className="ch-Balance-origin">
              <dt>{label}</dt>
              <dd>{formats.credits(amount)}</dd>
            </div>
          ))}
      </dl>
      {person.identity === "owner" && (
        <p className="ch-Hint">{trans.__("Everybody who logs in to this server shares these credits.")}</p>
      )}
    </>
  );
}
