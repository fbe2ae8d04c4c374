"""Ranges: the dates a range task stands for, and an account of every one of them."""
