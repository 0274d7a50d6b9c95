"""Which of several texts?"""
