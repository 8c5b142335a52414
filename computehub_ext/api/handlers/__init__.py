"""One file per resource; each handler is a sentence: parse, call one method of the control plane, reply."""
