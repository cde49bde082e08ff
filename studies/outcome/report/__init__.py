"""The verb `report`: all that is known of a study on one page, from what is remembered."""
