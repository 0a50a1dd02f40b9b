"""How a program gets to a platform: its code as a bundle, its declarations as a deployment."""
