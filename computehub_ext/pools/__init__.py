"""What there is to book: GPU models, pools of like devices, their rates and readings."""
