"""Run the program on the lab's Swarm where the Pulumi engine cannot be had."""
