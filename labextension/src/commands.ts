/** The names of all commands, in one place: palettes, menus, shortcuts and tests refer to them. */
export const CommandIDs = {
  /** Show the sidebar. */
  showPanel: "computehub:show-panel",
  /** Open the calendar in the main area. */
  openCalendar: "computehub:open-calendar",
  /** Open the booking form; args: `model`, `starts_at`, `duration_seconds`. */
  book: "computehub:book",
  /** Ask where to move a notebook, with a preview; args: `kernel_id` (else the current one), `model`, `count`. */
  moveNotebook: "computehub:move-notebook",
  /** Bring a notebook back to the CPU; args: `kernel_id` (else the current one). */
  returnNotebook: "computehub:return-notebook",
  /** Keep the current lease longer; args: `lease_id`, `seconds`. */
  extendLease: "computehub:extend-lease",
  /** Give the devices back earlier; args: `lease_id`, `seconds`. */
  shortenLease: "computehub:shorten-lease",
  /** End a lease now; args: `lease_id`. */
  endLease: "computehub:end-lease",
  /** Show what a lease's kernel wrote outside its cells; args: `lease_id`. */
  showLog: "computehub:show-log",
  /** Open a terminal beside a lease's kernel; args: `lease_id` (else the current notebook's). */
  openTerminal: "computehub:open-terminal",
  /** Set what notebooks may spend without asking. */
  setAllowance: "computehub:set-allowance",
  /** Download the history as a file. */
  exportHistory: "computehub:export-history",
  /** Fetch everything anew. */
  refresh: "computehub:refresh",
  /** Show the tour again. */
  startTour: "computehub:start-tour",
} as const;
