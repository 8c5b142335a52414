import { checkIcon, closeIcon } from "@jupyterlab/ui-components";

import type { Approval } from "../api/types";
import { ActionButton, useFocusKept } from "./action";
import { useWords } from "./words";

/** What kernels ask to spend above their allowance, to be let or not. */
export function ApprovalList(props: {
  approvals: readonly Approval[];
  onApprove: (approval: Approval) => Promise<unknown>;
  onDecline: (approval: Approval) => Promise<unknown>;
}): JSX.Element {
  const { trans, formats } = useWords();
  const { approvals, onApprove, onDecline } = props;
  const { holder, kept } = useFocusKept<HTMLUListElement>();
  return (
    <ul ref={holder} tabIndex={-1} className="ch-List" aria-label={trans.__("Notebooks ask to spend credits")}>
      {approvals.map((approval) => (
        <li key={approval.id} className="ch-Item">
          <p className="ch-Item-title">
            {approval.notebook_path
              ? trans.__("%1 asks to spend %2", approval.notebook_path, formats.credits(approval.amount_microcredits))
              : trans.__("A notebook asks to spend %1", formats.credits(approval.amount_microcredits))}
          </p>
          <p className="ch-Item-line">{formats.withTimes(approval.purpose)}</p>
          <p className="ch-Item-line">{trans.__("Asked until %1", formats.time(approval.expires_at))}</p>
          <div className="ch-Item-actions">
            <ActionButton
              label={trans.__("Approve")}
              kind="accept"
              icon={checkIcon}
              act={() => kept(onApprove(approval))}
            />
            <ActionButton label={trans.__("Decline")} icon={closeIcon} act={() => kept(onDecline(approval))} />
          </div>
        </li>
      ))}
    </ul>
  );
}
