"""What a program declares: environments, tasks, images and their options."""
